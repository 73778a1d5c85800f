"""Known secrets pass through dialogs, logins and key files, well and badly; then every sink is searched for them."""

import base64
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from prometheus_client import generate_latest
from sqlalchemy import inspect, text

from keyreeve import errors
from keyreeve.file_values import FileKeyType, FileSpace, RequestAttributes
from keyreeve.launch_values import ApplicationKind, Launch, LaunchOutcome, ObjectKind
from keyreeve.plaintext import Plaintext
from keyreeve_chassis.database.opening import writing_database
from keyreeve_chassis.keys.sealed import SealedKeyStore
from keyreeve_credentials.settings import CredentialsSettings
from keyreeve_credentials.store.schema import SCHEMA
from support.vault import running_vault

PASSWORD, LOGIN, PASSPHRASE = (Plaintext.of(f"canary-{n}-5d2f09a17c") for n in ("dialog", "login", "pkcs12"))
CONTENTS = Plaintext.of("canary-contents-5d2f09a17c")
LAUNCH = Launch("sales", "o=Indigo/cn=Ada", "o=Indigo/cn=Xterm", ".../_dns/prague.test")
SPACE = FileSpace("sales", "core1.example.test")


def forms(secret: bytes) -> set[bytes]:
    """The bytes as they are, in hexadecimal, and the middle of their base64 at each of three places."""
    found = {secret, secret.hex().encode()}
    for offset in range(3):
        found.add(base64.b64encode(b"\0" * offset + secret)[8:-8])
    return found


def tables(settings: CredentialsSettings) -> Iterator[tuple[str, bytes]]:
    """All values of all tables."""
    with writing_database(settings, SCHEMA) as database, database.engine.connect() as connection:
        for table in inspect(connection).get_table_names(schema=connection.dialect.default_schema_name):
            for row in connection.execute(text(f'SELECT * FROM "{table}"')):
                yield table, b"\n".join(bytes(v) if isinstance(v, memoryview) else _bytes(v) for v in row)


def files_of(settings: CredentialsSettings) -> Iterator[tuple[Path, bytes]]:
    """All files of the service, SQLite's write-ahead log among them."""
    for file in settings.state_directory.rglob("*"):
        if file.is_file():
            yield file, file.read_bytes()


def opened_keks(settings: CredentialsSettings) -> list[bytes]:
    """The key-encryption keys that the service has had open, in clear."""
    directory = settings.vault_keys_directory
    store = SealedKeyStore((directory / "root").read_bytes(), "keyreeve-vault-root")
    found = [store.unseal("kek", f"sales/{file.stem}", file.read_bytes()) for file in directory.glob("*.kek")]
    assert [len(kek) for kek in found] == [32]
    return found


def locked(key: Plaintext) -> bytes:
    """A private key, locked with the passphrase."""
    pkcs8, pem = serialization.PrivateFormat.PKCS8, serialization.Encoding.PEM
    loaded = serialization.load_pem_private_key(key.reveal(), None)
    return loaded.private_bytes(pem, pkcs8, serialization.BestAvailableEncryption(PASSPHRASE.reveal()))


def _bytes(value: object) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()


async def test_no_secret_is_in_the_database_the_log_errors_or_metrics(
    settings: CredentialsSettings,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level("DEBUG")
    said = []
    async with running_vault(settings, tmp_path) as vault:
        credentials = (await vault.client()).credentials
        kind = ObjectKind.APPLICATION
        await credentials.objects.create("sales", LAUNCH.application, kind, application_kind=ApplicationKind.X)
        resolution, files = credentials.resolution, credentials.files
        saved = await resolution.save_answer(LAUNCH, "ada", PASSWORD, save_password=True)
        said.append(repr(await resolution.resolve(LAUNCH)))
        said.append(repr(await resolution.explain(LAUNCH)))
        login = await resolution.save_login("sales", LAUNCH.owner, "ada", LOGIN)
        await resolution.report(LAUNCH, LaunchOutcome.REFUSED, entry=saved.entry, entry_version=1)
        said.append(repr(await resolution.resolve(LAUNCH)) + login.reason)

        await files.create_self_signed(SPACE, "web", RequestAttributes("web.test"), key_type=FileKeyType.P256)
        key = (await files.get(SPACE, "web.key", purpose="test")).contents
        await files.put(SPACE, "contents.bin", CONTENTS)
        await files.export_pkcs12(SPACE, "web.key", "web.crt", "web.p12", PASSPHRASE)
        await files.convert_pkcs12(SPACE, "web.p12", PASSPHRASE, "copy")
        said.append(repr(await files.get(SPACE, "copy.key", purpose="test")))
        await files.put(SPACE, "locked.key", Plaintext(locked(key)))
        said.append(repr(await files.unlock(SPACE, "locked.key", PASSPHRASE)))
        said.append(repr(await files.inspect(SPACE, "copy.key")))
        for attempt in (
            resolution.save_answer(LAUNCH, "", PASSWORD, save_password=True),
            resolution.save_login("sales", "ldap", "ada\n", LOGIN),
            files.unlock(SPACE, "web.p12", PASSPHRASE),
            files.convert_pkcs12(SPACE, "contents.bin", PASSPHRASE, "x"),
            files.put(SPACE, "contents.bin", CONTENTS),
            files.match(SPACE, "contents.bin", "contents.bin"),
        ):
            with pytest.raises(errors.KeyreeveError) as refused:
                await attempt
            said.append(f"{refused.value!r} {refused.value.metadata} {refused.value.violations}")
        said.append(generate_latest().decode())
        places = {f"{file}, while it runs": data for file, data in files_of(settings)}
    output = capfd.readouterr()
    places["what was said"] = "\n".join([*said, caplog.text, output.out, output.err]).encode()
    for number, (table, row) in enumerate(tables(settings)):
        places[f"{table} {number}"] = row
    places |= {str(file): data for file, data in files_of(settings)}
    assert {"entries", "key_files", "requests"} <= {name.split()[0] for name in places}
    secrets = [one.reveal() for one in (PASSWORD, LOGIN, PASSPHRASE, CONTENTS)] + [key.reveal().split(b"\n")[2]]
    secrets += opened_keks(settings)
    hits = [
        (secret, place)
        for secret in secrets
        for form in forms(secret)
        for place, data in places.items()
        if form in data
    ]
    assert hits == []
    assert any(form in b"\0" + base64.b64encode(b"x" + PASSWORD.reveal()) for form in forms(PASSWORD.reveal()))
