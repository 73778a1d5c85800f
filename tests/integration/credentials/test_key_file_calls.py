"""Key files over real mutual TLS, on both databases."""

from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from sqlalchemy import text

from keyreeve import errors
from keyreeve.file_values import FileKeyType, FileSpace, RequestAttributes
from keyreeve.identity import Role
from keyreeve.operation_values import OperationState
from keyreeve.plaintext import Plaintext
from keyreeve_chassis.database.opening import writing_database
from keyreeve_credentials.key_documents.contents import load_private_key
from keyreeve_credentials.settings import CredentialsSettings
from keyreeve_credentials.store.schema import SCHEMA
from support.service_in_process import InProcess
from support.vault import running_vault, vault_settings

SPACE = FileSpace("sales", "core1.example.test")
CA = RequestAttributes("Database CA", names=("db.example.test",))
SERVER = RequestAttributes("core1.example.test", names=("core2.example.test", "core3.example.test"))
PASSPHRASE = Plaintext.of("canary-2c91-passphrase")
P256 = FileKeyType.P256


async def test_the_recipe_for_a_database_cluster_works(settings: CredentialsSettings, tmp_path: Path) -> None:
    async with running_vault(settings, tmp_path) as vault:
        files = (await vault.client(Role.OPERATOR)).credentials.files
        await files.create_self_signed(SPACE, "dbca", CA, key_type=P256)
        made = await files.create_request(SPACE, "dbserver", SERVER, key_type=P256)
        assert made.warnings == ("the subject alternative names do not contain the common name core1.example.test",)
        await files.create_request(SPACE, "dbclient", RequestAttributes("postgres"))
        for basename in ("dbserver", "dbclient"):
            await files.sign_request(SPACE, basename, "dbca")
            assert await files.match(SPACE, f"{basename}.key", f"{basename}.crt")
            assert (await files.verify(SPACE, f"{basename}.crt", "dbca.crt")).verified
        assert not await files.match(SPACE, "dbclient.key", "dbserver.crt")
        inspection = await files.inspect(SPACE, "dbclient.crt")
        assert inspection.elements[0].subject == "CN=postgres"
        assert inspection.elements[0].key_type == "RSA 2048"
        listed = [(file.file, file.holds_private_key) async for file in files.list(SPACE, page_size=3)]
        assert listed == [
            ("dbca.crt", False),
            ("dbca.key", True),
            ("dbclient.crt", False),
            ("dbclient.csr", False),
            ("dbclient.key", True),
            ("dbserver.crt", False),
            ("dbserver.csr", False),
            ("dbserver.key", True),
        ]
        assert [file async for file in files.list(FileSpace("sales", "core2.example.test"))] == []


async def test_a_file_is_put_read_renamed_and_deleted(settings: CredentialsSettings, tmp_path: Path) -> None:
    async with running_vault(settings, tmp_path) as vault:
        files = (await vault.client()).credentials.files
        contents = Plaintext(bytes(range(256)) * 1024)
        stored = await files.put(SPACE, "big.bin", contents)
        assert (stored.size, stored.version) == (262_144, 1)
        found = await files.get(SPACE, "big.bin", purpose="test")
        assert found.contents == contents
        assert found.file == stored
        renamed = await files.rename(SPACE, "big.bin", "other.bin")
        assert (renamed.file, renamed.version) == ("other.bin", 2)
        assert (await files.get(SPACE, "other.bin", purpose="test")).contents == contents
        with pytest.raises(errors.KeyFileNotFound):
            await files.get(SPACE, "big.bin", purpose="test")
        with pytest.raises(errors.KeyFileExists):
            await files.put(SPACE, "other.bin", contents)
        replaced = await files.put(SPACE, "other.bin", Plaintext(b"new"), replace=True)
        assert replaced.version == 1
        assert (await files.get(SPACE, "other-replaced-1.bin", purpose="test")).contents == contents
        await files.delete(SPACE, "other.bin")
        with pytest.raises(errors.KeyFileNotFound):
            await files.delete(SPACE, "other.bin")


async def test_a_key_in_use_is_replaced_only_if_forced_and_the_old_pair_is_kept(
    settings: CredentialsSettings, tmp_path: Path
) -> None:
    async with running_vault(settings, tmp_path) as vault:
        files = (await vault.client()).credentials.files
        await files.create_self_signed(SPACE, "web", SERVER, key_type=P256)
        old = (await files.get(SPACE, "web.key", purpose="test")).contents
        assigned = await files.assign(SPACE, "webadmin", ["web.key", "web.crt"])
        assert [file.used_by for file in assigned] == [("webadmin",)] * 2
        with pytest.raises(errors.KeyFileExists):
            await files.create_request(SPACE, "web", SERVER, key_type=P256)
        for act in (
            files.create_request(SPACE, "web", SERVER, key_type=P256, replace=True),
            files.put(SPACE, "web.key", Plaintext(b"x"), replace=True),
            files.rename(SPACE, "web.key", "a.key"),
            files.delete(SPACE, "web.crt"),
        ):
            with pytest.raises(errors.KeyFileInUse):
                await act
        made = await files.create_request(SPACE, "web", SERVER, key_type=P256, force=True)
        assert {file.file for file in made.kept_files} == {"web-replaced-1.key", "web-replaced-1.crt"}
        assert (await files.get(SPACE, "web-replaced-1.key", purpose="test")).contents == old
        assert await files.match(SPACE, "web-replaced-1.key", "web-replaced-1.crt")

        renamed = await files.rename(SPACE, "web.key", "old.key", force=True)
        assert renamed.used_by == ()
        new = await files.rename(SPACE, "old.key", "web.key")
        assert new.used_by == ("webadmin",)
        await files.assign(SPACE, "webadmin", [])
        await files.create_request(SPACE, "web", SERVER, key_type=P256, replace=True)
        await files.rename(SPACE, "web-replaced-1.key", "web.key", replace=True)
        assert (await files.get(SPACE, "web.key", purpose="test")).contents == old


async def test_a_pkcs12_is_exported_and_converted_and_a_locked_key_unlocked(
    settings: CredentialsSettings, tmp_path: Path
) -> None:
    async with running_vault(settings, tmp_path) as vault:
        files = (await vault.client()).credentials.files
        await files.create_self_signed(SPACE, "ca", CA, key_type=P256)
        await files.create_request(SPACE, "web", SERVER, key_type=P256)
        await files.sign_request(SPACE, "web", "ca")
        await files.export_pkcs12(SPACE, "web.key", "web.crt", "web.p12", PASSPHRASE, bundle="ca.crt")
        with pytest.raises(errors.PassphraseWrong):
            await files.convert_pkcs12(SPACE, "web.p12", Plaintext.of("wrong"), "copy")
        made = await files.convert_pkcs12(SPACE, "web.p12", PASSPHRASE, "copy")
        assert [file.file for file in made.files] == ["copy.key", "copy.crt", "copy-bundle.crt"]
        assert (await files.verify(SPACE, "copy.crt", "copy-bundle.crt")).verified
        key = (await files.get(SPACE, "copy.key", purpose="test")).contents
        assert key == (await files.get(SPACE, "web.key", purpose="test")).contents

        locked = load_private_key(key.reveal()).private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.TraditionalOpenSSL,
            serialization.BestAvailableEncryption(PASSPHRASE.reveal()),
        )
        await files.put(SPACE, "locked.key", Plaintext(locked))
        assert (await files.inspect(SPACE, "locked.key")).elements[0].kind == "private key locked with a passphrase"
        with pytest.raises(errors.PassphraseWrong):
            await files.unlock(SPACE, "locked.key", Plaintext.of("wrong"))
        with pytest.raises(errors.KeyFileUnreadable):
            await files.match(SPACE, "locked.key", "web.crt")
        await files.unlock(SPACE, "locked.key", PASSPHRASE)
        assert await files.match(SPACE, "locked.key", "web.crt")


async def test_a_repeated_upload_is_answered_once(vault_on_sqlite: InProcess) -> None:
    files = (await vault_on_sqlite.client()).credentials.files
    request_id = "b3f3c0de-0000-4000-8000-000000000002"
    first = await files.put(SPACE, "a.crt", Plaintext(b"x"), request_id=request_id)
    assert await files.put(SPACE, "a.crt", Plaintext(b"x"), request_id=request_id) == first
    with pytest.raises(errors.RequestIdReused):
        await files.put(SPACE, "a.crt", Plaintext(b"y"), request_id=request_id)


async def test_a_file_has_at_most_1_mib(vault_on_sqlite: InProcess) -> None:
    files = (await vault_on_sqlite.client()).credentials.files
    assert (await files.put(SPACE, "a.bin", Plaintext(b"x" * (1 << 20)))).size == 1 << 20
    with pytest.raises(errors.KeyFileTooLarge):
        await files.put(SPACE, "b.bin", Plaintext(b"x" * ((1 << 20) + 1)))


@pytest.mark.parametrize("name", ["../a", ".key", "a/b", "a b", ""])
async def test_a_name_outside_the_flat_space_is_refused(name: str, vault_on_sqlite: InProcess) -> None:
    files = (await vault_on_sqlite.client()).credentials.files
    with pytest.raises(errors.FieldInvalid):
        await files.put(SPACE, name, Plaintext(b"x"))
    with pytest.raises(errors.FieldInvalid):
        await files.create_request(SPACE, "a.b", SERVER)


async def test_a_private_key_is_read_for_a_purpose_that_a_policy_allows(vault_on_sqlite: InProcess) -> None:
    vault = vault_on_sqlite
    operator = (await vault.client(Role.OPERATOR)).credentials.files
    auditor = (await vault.client(Role.AUDITOR)).credentials.files
    member = (await vault.client(path=vault.identity.enroll("one.test", "sales"))).credentials.files
    primary = (await vault.client(path=vault.identity.enroll("two.test", "sales", primary=True))).credentials.files
    await primary.create_self_signed(SPACE, "web", SERVER, key_type=P256)
    with pytest.raises(errors.FieldInvalid):
        await operator.get(SPACE, "web.key")
    with pytest.raises(errors.PolicyDenied):
        await operator.get(SPACE, "web.key", purpose="backup")
    for granted_without_secrets in ("list", "manage", "launch"):
        with pytest.raises(errors.FieldInvalid, match="reserved"):
            await operator.get(SPACE, "web.key", purpose=granted_without_secrets)
    assert (await operator.get(SPACE, "web.crt")).file.file == "web.crt"
    assert [file.file async for file in auditor.list(SPACE)] == ["web.crt", "web.key"]
    for act in (member.create_request, operator.create_request):
        space = SPACE if act == member.create_request else FileSpace("sales", "UPPER")
        with pytest.raises((errors.PolicyDenied, errors.FieldInvalid)):
            await act(space, "other", SERVER, key_type=P256)
    for file in ("web.crt", "none.crt"):
        with pytest.raises(errors.PolicyDenied):  # whether it exists or not
            await member.get(SPACE, file)
    admin = (await vault.client()).credentials.files
    assert (await admin.get(SPACE, "web.key", purpose="backup")).contents.reveal().startswith(b"-----BEGIN PRIVATE KEY")


async def test_the_key_of_a_certificate_in_use_is_neither_deleted_nor_renamed_unless_forced(
    vault_on_sqlite: InProcess,
) -> None:
    files = (await vault_on_sqlite.client()).credentials.files
    await files.create_self_signed(SPACE, "web", SERVER, key_type=P256)
    await files.assign(SPACE, "gateway", ["web.crt"])
    for act in (files.delete(SPACE, "web.key"), files.rename(SPACE, "web.key", "old.key")):
        with pytest.raises(errors.KeyFileInUse, match=r"certificate web\.crt"):
            await act
    await files.delete(SPACE, "web.key", force=True)


async def test_a_file_copied_over_another_does_not_open(tmp_path: Path) -> None:
    settings = vault_settings(tmp_path)
    async with running_vault(settings, tmp_path) as vault:
        files = (await vault.client()).credentials.files
        for name in ("a.key", "b.key"):
            await files.put(SPACE, name, Plaintext(name.encode()))
    with writing_database(settings, SCHEMA) as database, database.engine.begin() as connection:
        columns = "kek_id, wrapped_key, sealed_contents"
        connection.execute(
            text(
                f"UPDATE key_files SET ({columns}) = (SELECT {columns} FROM key_files k WHERE k.name = 'a.key') "
                "WHERE name = 'b.key'"
            )
        )
    async with running_vault(settings, tmp_path) as vault:
        files = (await vault.client()).credentials.files
        assert (await files.get(SPACE, "a.key", purpose="test")).contents.text() == "a.key"
        with pytest.raises(errors.KeyFileDamaged):
            await files.get(SPACE, "b.key", purpose="test")


async def test_key_files_are_re_encrypted_by_a_rotation_and_stay_readable(tmp_path: Path) -> None:
    settings = vault_settings(tmp_path, vault={"backup_days": 0})
    async with running_vault(settings, tmp_path) as vault:
        client = await vault.client()
        files = client.credentials.files
        for number in range(5):
            await files.put(SPACE, f"{number}.bin", Plaintext(bytes([number])))
        begun = await client.credentials.keys.rotate("sales")
        seen = [operation async for operation in client.credentials.operations.watch(begun.name)]
        assert (seen[-1].state, seen[-1].done) == (OperationState.SUCCEEDED, 5)
        for number in range(5):
            found = await files.get(SPACE, f"{number}.bin", purpose="test")
            assert (found.contents, found.file.version) == (Plaintext(bytes([number])), 1)
        await files.rename(SPACE, "0.bin", "renamed.bin")
        assert (await files.get(SPACE, "renamed.bin", purpose="test")).contents == Plaintext(b"\0")
    with writing_database(settings, SCHEMA) as database, database.engine.connect() as connection:
        assert len(set(connection.scalars(text("SELECT kek_id FROM key_files")))) == 1


async def test_what_a_row_says_of_its_contents_gives_no_rights(tmp_path: Path) -> None:
    settings = vault_settings(tmp_path)
    async with running_vault(settings, tmp_path) as vault:
        files = (await vault.client()).credentials.files
        await files.create_self_signed(SPACE, "web", SERVER, key_type=P256)
        await files.put(SPACE, "unknown.bin", Plaintext(b"-----BEGIN OPENSSH PRIVATE KEY-----"))
    with writing_database(settings, SCHEMA) as database, database.engine.begin() as connection:
        connection.execute(text("UPDATE key_files SET holds_private_key = 0"))
    async with running_vault(settings, tmp_path) as vault:
        operator = (await vault.client(Role.OPERATOR)).credentials.files
        for name in ("web.key", "unknown.bin"):
            with pytest.raises(errors.FieldInvalid):
                await operator.get(SPACE, name)
            with pytest.raises(errors.PolicyDenied):
                await operator.get(SPACE, name, purpose="backup")
        assert (await operator.get(SPACE, "web.crt")).file.file == "web.crt"


@pytest.mark.parametrize("column", ["file_uid", "array_id", "server", "name", "encryption", "kek_id", "wrapped_key"])
async def test_a_row_that_was_changed_does_not_open(column: str, tmp_path: Path) -> None:
    settings = vault_settings(tmp_path)
    async with running_vault(settings, tmp_path) as vault:
        client = (await vault.client()).credentials
        await client.files.put(SPACE, "a.key", Plaintext(b"secret"))
        await client.files.put(FileSpace("finance", SPACE.server), "b.key", Plaintext(b"other"))
    other = {"encryption": "2", "array_id": "'finance'", "server": "'core9.example.test'", "name": "'c.key'"}
    changed = other.get(column, f"(SELECT {column} FROM key_files WHERE name = 'b.key')")
    if column == "file_uid":
        changed = "'00000000000000000000000000000000'"
    with writing_database(settings, SCHEMA) as database, database.engine.begin() as connection:
        connection.execute(text(f"UPDATE key_files SET {column} = {changed} WHERE name = 'a.key'"))
    array = "finance" if column == "array_id" else "sales"
    server = "core9.example.test" if column == "server" else SPACE.server
    async with running_vault(settings, tmp_path) as vault:
        files = (await vault.client()).credentials.files
        with pytest.raises((errors.KeyFileDamaged, errors.VaultKeyUnavailable)):
            await files.get(FileSpace(array, server), "c.key" if column == "name" else "a.key", purpose="test")
