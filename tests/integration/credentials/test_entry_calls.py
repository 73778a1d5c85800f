"""Entries over real mutual TLS, on both databases."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from keyreeve import errors
from keyreeve.credentials.v1 import entry_service_pb2 as pb
from keyreeve.identity import Role
from keyreeve.plaintext import Plaintext
from keyreeve.vault_values import EntryKind
from keyreeve_chassis.database.opening import writing_database
from keyreeve_chassis.schema.migrating import drift
from keyreeve_credentials.app import STORAGE
from keyreeve_credentials.settings import CredentialsSettings
from keyreeve_credentials.store.schema import SCHEMA
from support.access_matrix import caller_kinds, walk
from support.service_in_process import database_url
from support.ticket_matrix import walk_tickets_in_process
from support.vault import BILL, PRAGUE, running_vault, vault_settings

SECRET = Plaintext.of("canary-81be-password")


async def test_an_entry_is_created_read_changed_and_deleted(settings: CredentialsSettings, tmp_path: Path) -> None:
    async with running_vault(settings, tmp_path) as vault:
        entries = (await vault.client()).credentials.entries
        made = await entries.create("sales", BILL, PRAGUE, "Bill ", SECRET)
        assert (made.user_name, made.version, made.kind) == ("Bill ", 1, EntryKind.PASSWORD)
        assert await entries.get(made.name) == made
        revealed = await entries.reveal(made.name, purpose="support")
        assert revealed.secret == SECRET
        assert "canary" not in repr(revealed)

        changed = await entries.update(made.name, user_name="william", version=1)
        assert (changed.user_name, changed.version) == ("william", 2)
        assert (await entries.reveal(made.name, purpose="support")).secret == SECRET
        with pytest.raises(errors.EntryVersionStale):
            await entries.update(made.name, user_name="x", version=1)
        await entries.update(made.name, secret=Plaintext.of("new"))
        assert (await entries.reveal(made.name, purpose="support")).secret.text() == "new"
        card = await entries.update(made.name, kind=EntryKind.SMART_CARD)
        assert card.kind is EntryKind.SMART_CARD
        assert not (await entries.reveal(made.name, purpose="support")).secret

        await entries.delete(made.name)
        for act in (entries.get, entries.delete):
            with pytest.raises(errors.EntryNotFound):
                await act(made.name)


async def test_there_is_one_entry_for_an_owner_and_a_resource_of_an_array(
    settings: CredentialsSettings, tmp_path: Path
) -> None:
    async with running_vault(settings, tmp_path) as vault:
        entries = (await vault.client()).credentials.entries
        made = await entries.create("sales", BILL, PRAGUE, "bill", SECRET)
        with pytest.raises(errors.EntryExists) as refused:
            await entries.create("sales", ".../_ens/O=INDIGO/cn=bill", ".../_dns/PRAGUE.example.com", "b", SECRET)
        assert refused.value.metadata["entry"] == made.name
        await entries.create("finance", BILL, PRAGUE, "bill", SECRET)
        await entries.create("sales", BILL, "", "bill", SECRET)
        with pytest.raises(errors.FieldInvalid):
            await entries.create("sales", "ldap", PRAGUE, "cn=Bill", SECRET)
        for secret, kind in ((None, EntryKind.PASSWORD), (SECRET, EntryKind.SMART_CARD)):
            with pytest.raises(errors.FieldInvalid):
                await entries.create("sales", "anonymous", PRAGUE, "guest", secret, kind=kind)


async def test_lists_have_pages_of_150_filters_with_wildcards_and_no_secrets(
    settings: CredentialsSettings, tmp_path: Path
) -> None:
    async with running_vault(settings, tmp_path) as vault:
        entries = (await vault.client(Role.OPERATOR)).credentials.entries
        for number in range(155):
            await entries.create("sales", f"o=Indigo/cn=Person {number:03}", ".../_wns/INDIGO", f"p{number}", SECRET)
        await entries.create("sales", BILL, PRAGUE, "100%_bill", SECRET)
        await entries.create("sales", BILL, "", "bill", SECRET)
        method, page = "/keyreeve.credentials.v1.EntryService/ListEntries", pb.ListEntriesResponse
        first = await entries._caller.unary(method, pb.ListEntriesRequest(parent="arrays/sales"), page, None)
        assert len(first.entries) == 150
        everything = [entry async for entry in entries.list("sales")]
        assert len(everything) == 157
        assert [e.owner for e in everything] == sorted((e.owner for e in everything), key=str.casefold)
        assert "canary" not in repr(everything)

        async def found(**filters: str | bool) -> int:
            return len([entry async for entry in entries.list("sales", page_size=7, **filters)])  # type: ignore[arg-type]

        assert await found(owner="*person 01*") == 10
        assert await found(owner=BILL.upper()) == 2
        assert await found(owner=BILL, resource=PRAGUE) == 1
        assert await found(resource="*prague*") == 1
        assert await found(user_name="*%_B*") == 1
        assert await found(user_name="p_*") == 0
        assert await found(login_only=True) == 1
        assert [entry async for entry in entries.list("finance")] == []


async def test_entries_of_an_owner_or_a_resource_are_deleted_and_never_all(
    settings: CredentialsSettings, tmp_path: Path
) -> None:
    async with running_vault(settings, tmp_path) as vault:
        entries = (await vault.client()).credentials.entries
        for owner in (BILL, "anonymous"):
            for resource in (PRAGUE, ".../_wns/INDIGO"):
                await entries.create("sales", owner, resource, "u", SECRET)
        with pytest.raises(errors.FieldInvalid):
            await entries.delete_all("sales")
        assert len((await entries.delete_all("sales", resource=PRAGUE)).names) == 2
        assert len((await entries.delete_all("sales", owner="anonymous", resource=PRAGUE)).names) == 0
        assert len((await entries.delete_all("sales", owner=BILL)).names) == 1
        assert [entry.owner async for entry in entries.list("sales")] == ["anonymous"]


@pytest.mark.thorough_on("postgresql")
@pytest.mark.sqlite_first
async def test_every_method_keeps_to_its_access_rule(settings: CredentialsSettings, tmp_path: Path) -> None:
    async with running_vault(settings, tmp_path) as vault:
        router = vault.running.router
        tried = await walk(vault.address, router, vault.identity.hierarchies, vault.verifier, service="credentials")
        assert tried == len(caller_kinds(vault.identity.hierarchies)) * len(router.methods)
        identity, methods = vault.identity, list(router.methods.values())
        await walk_tickets_in_process(vault.address, methods, identity.hierarchies, identity.revocations, "credentials")


async def test_a_write_and_a_read_of_a_secret_leave_records_that_name_the_row(
    settings: CredentialsSettings, tmp_path: Path
) -> None:
    async with running_vault(settings, tmp_path) as vault:
        client = await vault.client()
        made = await client.credentials.entries.create("sales", BILL, PRAGUE, "bill", SECRET)
        await client.credentials.entries.reveal(made.name, purpose="support")
        by_method: dict[str, Any] = {}
        async with asyncio.timeout(10):  # the list ends at the last checkpoint, which is signed each second
            while "RevealEntry" not in by_method:
                records = [found.record async for found in client.credentials.audit.list()]
                by_method = {record.method.rpartition("/")[2]: record for record in records}
        written = dict(by_method["CreateEntry"].results)
        assert written["name"] == made.name
        assert written["row"] == f"{made.name} 1 {made.row_sha256.hex()}"
        read = by_method["RevealEntry"].targets
        assert ("purpose", "support") in read
        assert ("owner", made.owner) in read
        assert "canary" not in repr(records)


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_the_migrations_create_the_tables_exactly(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    url = database_url(kind, lambda: request.getfixturevalue("postgresql_server"), SCHEMA, migrated=False)
    settings = vault_settings(tmp_path, url)
    settings.state_directory.mkdir(mode=0o700)
    STORAGE.migrate(settings)
    with writing_database(settings, SCHEMA) as database:
        assert drift(database.engine, SCHEMA) == []
