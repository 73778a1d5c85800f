"""Keys over real mutual TLS: rotation while entries are read, destruction, the seal."""

import asyncio
import shutil
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import make_url, text

from keyreeve import aio, errors
from keyreeve.identity import Role
from keyreeve.operation_values import OperationState
from keyreeve.plaintext import Plaintext
from keyreeve.vault_values import Entry, EntryKind, KeyStage
from keyreeve_chassis.database.opening import writing_database
from keyreeve_chassis.keys.ports import KeyStoreError
from keyreeve_credentials.settings import CredentialsSettings, VaultSettings
from keyreeve_credentials.store.schema import SCHEMA
from support.postgres import Server
from support.service_in_process import database_url
from support.vault import BILL, PRAGUE, running_vault, vault_settings


def with_vault(settings: CredentialsSettings, **values: Any) -> CredentialsSettings:
    return settings.model_copy(update={"vault": settings.vault.model_copy(update=values)})


async def fill(client: aio.Client, count: int) -> dict[str, Entry]:
    """Entries with a password each, which is named after its user; one in ten is a smart card decision."""
    made = {}
    for number in range(count):
        kind = EntryKind.SMART_CARD if number % 10 == 9 else EntryKind.PASSWORD
        secret = None if kind is EntryKind.SMART_CARD else Plaintext.of(f"secret of {number}")
        entry = await client.credentials.entries.create(
            "sales", f"o=Indigo/cn=P{number}", PRAGUE, str(number), secret, kind=kind
        )
        made[entry.name] = entry
    return made


async def check(client: aio.Client, entries: dict[str, Entry]) -> None:
    """Every entry opens with its own password."""
    for name, entry in entries.items():
        secret = (await client.credentials.entries.reveal(name, purpose="support")).secret
        assert secret == Plaintext.of("" if entry.kind is EntryKind.SMART_CARD else f"secret of {entry.user_name}")


async def ended(client: aio.Client, name: str) -> Any:
    async for operation in client.credentials.operations.watch(name):
        last = operation
    return last


async def test_a_rotation_re_encrypts_everything_while_it_is_read(
    settings: CredentialsSettings, tmp_path: Path
) -> None:
    settings = with_vault(settings, rekey_rows_per_second=400.0, backup_days=0)
    async with running_vault(settings, tmp_path) as vault:
        client = await vault.client()
        made = await fill(client, 120)
        first = (await client.credentials.keys.state("sales")).keys[0]
        assert (first.stage, first.values, first.wraps) == (KeyStage.WRITER, 120, 120)
        operation = await client.credentials.keys.rotate("sales")
        again = await client.credentials.keys.rotate("sales")
        assert again.name == operation.name or again.state is not OperationState.RUNNING
        reading = asyncio.create_task(check(client, made))
        late = await client.credentials.entries.create("sales", BILL, PRAGUE, "late", Plaintext.of("late"))
        done = await ended(client, operation.name)
        await reading
        assert (done.state, done.done, done.total) == (OperationState.SUCCEEDED, 120, 120)
        await check(client, made)
        now = [entry async for entry in client.credentials.entries.list("sales", owner="*cn=p*")]
        assert {(entry.version, entry.encryption) for entry in now} == {(1, 2)}
        assert (await client.credentials.entries.get(late.name)).key == now[0].key
        async with asyncio.timeout(5):  # backups are not kept: the old key is destroyed at once
            while (state := await client.credentials.keys.state("sales")).keys[1].stage is not KeyStage.DESTROYED:
                pass
        assert [(key.number, key.stage, key.values) for key in state.keys] == [
            (2, KeyStage.WRITER, 121),
            (1, KeyStage.DESTROYED, 0),
        ]
        assert not list(settings.vault_keys_directory.glob(f"{first.name[-32:]}.kek"))


async def test_a_destroyed_key_opens_no_row_of_an_old_copy_of_the_database_or_of_its_log(tmp_path: Path) -> None:
    settings = with_vault(vault_settings(tmp_path), backup_days=0)
    old = vault_settings(tmp_path / "old", vault={"keys_directory": settings.vault_keys_directory})
    async with running_vault(settings, tmp_path) as vault:
        client = await vault.client()
        made = await fill(client, 3)
        shutil.copytree(settings.state_directory, old.state_directory, ignore=shutil.ignore_patterns("run", "*.lock"))
        assert (old.state_directory / "credentials.db-wal").stat().st_size > 0
        await ended(client, (await client.credentials.keys.rotate("sales")).name)
        async with asyncio.timeout(5):
            while (await client.credentials.keys.state("sales")).keys[1].stage is not KeyStage.DESTROYED:
                pass
        await check(client, made)
    (old.state_directory / "database.json").unlink()
    async with running_vault(old, tmp_path) as vault:
        client = await vault.client()
        assert len([entry async for entry in client.credentials.entries.list("sales")]) == 3
        for name in made:
            with pytest.raises(errors.VaultKeyUnavailable, match="destroyed"):
                await client.credentials.entries.reveal(name, purpose="support")


async def test_a_destroyed_key_opens_no_row_of_an_old_copy_of_a_postgresql_database(
    tmp_path: Path, postgresql_server: Server
) -> None:
    url = database_url("postgresql", lambda: postgresql_server, SCHEMA)
    settings = with_vault(vault_settings(tmp_path, url), backup_days=0)
    async with running_vault(settings, tmp_path) as vault:
        made = await fill(await vault.client(), 1)
    database = str(make_url(url).database)
    postgresql_server.execute(f"CREATE DATABASE {database}_old TEMPLATE {database}")
    async with running_vault(settings, tmp_path) as vault:
        client = await vault.client()
        await ended(client, (await client.credentials.keys.rotate("sales")).name)
        async with asyncio.timeout(5):
            while (await client.credentials.keys.state("sales")).keys[1].stage is not KeyStage.DESTROYED:
                pass
        await check(client, made)
    keys = {"keys_directory": settings.vault_keys_directory}
    old = vault_settings(tmp_path / "old", postgresql_server.url(f"{database}_old"), vault=keys)
    old.state_directory.mkdir(mode=0o700, parents=True)
    shutil.copy2(settings.kek_file, old.kek_file)
    async with running_vault(old, tmp_path) as vault:
        with pytest.raises(errors.VaultKeyUnavailable, match="destroyed"):
            await (await vault.client()).credentials.entries.reveal(next(iter(made)), purpose="support")


async def test_two_people_destroy_a_key_that_backups_need(tmp_path: Path) -> None:
    settings = vault_settings(tmp_path)
    async with running_vault(settings, tmp_path) as vault:
        ann, keys = await vault.client(), (await vault.client()).credentials.keys
        made = await fill(ann, 2)
        writer = (await keys.state("sales")).keys[0].name
        with pytest.raises(errors.KeyInUse):
            await keys.destroy(writer, now=True)
        await ended(ann, (await keys.rotate("sales")).name)
        drained = (await keys.state("sales")).keys[1]
        assert drained.stage is KeyStage.DRAINING
        assert drained.drained_at is not None
        assert drained.destroy_at is not None
        assert (drained.destroy_at - drained.drained_at).days == 30
        with pytest.raises(errors.KeyInUse):
            await keys.destroy(drained.name)
        asked = await keys.destroy(drained.name, now=True)
        assert asked.stage is KeyStage.DRAINING
        assert asked.destruction_requester.endswith("/operators/admin/ann")
        with pytest.raises(errors.SecondPersonRequired):
            await keys.destroy(drained.name, now=True)
        vault.identity.people["operators/admin/bea"] = "uid of bea"
        bea = (await vault.client(path="operators/admin/bea")).credentials.keys
        assert (await bea.destroy(drained.name, now=True)).stage is KeyStage.DESTROYED
        assert (await bea.destroy(drained.name, now=True)).stage is KeyStage.DESTROYED
        await check(ann, made)
        for name in ("arrays/finance/keys/" + drained.name[-32:], "arrays/sales/keys/" + "0" * 32):
            with pytest.raises(errors.KeyNotFound):
                await keys.destroy(name)


async def test_a_sealed_vault_opens_and_writes_nothing_also_after_a_restart(
    settings: CredentialsSettings, tmp_path: Path
) -> None:
    async with running_vault(settings, tmp_path) as vault:
        admin, olaf = (await vault.client()), (await vault.client(Role.OPERATOR))
        made = await fill(admin, 1)
        [name] = made
        assert (await olaf.credentials.keys.seal("break-in at the office")).sealed
        for act in (
            lambda: admin.credentials.entries.reveal(name, purpose="support"),
            lambda: admin.credentials.entries.create("sales", BILL, "", "b", Plaintext.of("x")),
            lambda: admin.credentials.entries.create("fresh", BILL, "", "b", Plaintext.of("x")),
            lambda: admin.credentials.entries.update(name, user_name="x"),
            lambda: admin.credentials.keys.rotate("sales"),
        ):
            with pytest.raises(errors.VaultSealed, match="break-in"):
                await act()
        assert (await admin.credentials.entries.get(name)).name == name
    async with running_vault(settings, tmp_path) as vault:
        admin = await vault.client()
        with pytest.raises(errors.VaultSealed):
            await admin.credentials.entries.reveal(name, purpose="support")
        state = await admin.credentials.keys.unseal("it was a drill")
        assert (state.sealed, state.reason) == (False, "it was a drill")
        await check(admin, made)


async def test_a_seal_closes_the_other_replicas(tmp_path: Path, postgresql_server: Server) -> None:
    one = vault_settings(tmp_path, database_url("postgresql", lambda: postgresql_server, SCHEMA))
    keys = VaultSettings(keys_directory=one.vault_keys_directory)
    two = one.model_copy(update={"state_directory": tmp_path / "two", "vault": keys})
    async with running_vault(one, tmp_path) as first:
        admin = await first.client()
        made = await fill(admin, 1)
        two.state_directory.mkdir(mode=0o700)
        shutil.copy2(one.kek_file, two.kek_file)
        async with running_vault(two, tmp_path, identity=first.identity) as second:
            other = await second.client()
            await check(other, made)
            await admin.credentials.keys.seal("break-in")
            refused = None
            async with asyncio.timeout(5):
                while refused is None:
                    try:
                        await check(other, made)
                    except errors.VaultSealed as sealed:
                        refused = sealed
            assert "break-in" in refused.message


async def test_a_rotation_waits_while_the_vault_is_sealed(tmp_path: Path) -> None:
    settings = with_vault(vault_settings(tmp_path), rekey_rows_per_second=50.0)
    async with running_vault(settings, tmp_path) as vault:
        client = await vault.client()
        made = await fill(client, 60)
        operation = await client.credentials.keys.rotate("sales")
        await client.credentials.keys.seal("drill")
        assert (await client.credentials.operations.get(operation.name)).state is OperationState.RUNNING
        await client.credentials.keys.unseal("drill")
        assert (await ended(client, operation.name)).state is OperationState.SUCCEEDED
        await check(client, made)


async def test_a_seal_that_was_lifted_in_the_database_stays(tmp_path: Path) -> None:
    settings = vault_settings(tmp_path)
    async with running_vault(settings, tmp_path) as vault:
        made = await fill(await vault.client(), 1)
        await (await vault.client()).credentials.keys.seal("break-in")
    with writing_database(settings, SCHEMA) as database, database.engine.begin() as connection:
        connection.execute(text("UPDATE vault_seal SET sealed = 0"))
    async with running_vault(settings, tmp_path) as vault:
        with pytest.raises(errors.TrustTableAltered):
            await (await vault.client()).credentials.entries.reveal(next(iter(made)), purpose="support")


async def test_a_lost_or_exchanged_root_key_is_refused_with_what_to_do(tmp_path: Path) -> None:
    settings = vault_settings(tmp_path)
    async with running_vault(settings, tmp_path) as vault:
        made = await fill(await vault.client(), 1)
    root = settings.vault_keys_directory / "root"
    kept = root.read_bytes()
    root.unlink()
    with pytest.raises(Exception, match=r"root key .* is missing.*Restore it"):
        async with running_vault(settings, tmp_path):
            pass
    assert not root.exists()
    root.write_bytes(bytes(32))
    root.chmod(0o600)
    with pytest.raises(KeyStoreError, match="Restore the root key"):
        async with running_vault(settings, tmp_path):
            pass
    root.write_bytes(kept)
    async with running_vault(settings, tmp_path) as vault:
        await check(await vault.client(), made)
