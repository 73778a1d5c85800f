"""The credentials service's storage without its listener."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from sqlalchemy import select, update

from keyreeve.plaintext import Plaintext
from keyreeve_chassis.audit.recording import system_event
from keyreeve_chassis.operations.ports import Operation
from keyreeve_chassis.processes.lifecycle import system_clock
from keyreeve_credentials.app import STORAGE, CredentialsContext, scrubber
from keyreeve_credentials.entries.names import parse_owner, parse_resource
from keyreeve_credentials.entries.ports import Entry, EntryKind
from keyreeve_credentials.entries.service import EntryValue
from keyreeve_credentials.entries.servicer import row_text
from keyreeve_credentials.entries.tables import entries as table
from keyreeve_credentials.settings import CredentialsSettings
from keyreeve_credentials.store.schema import SCHEMA
from support.service_in_process import migrate_file
from support.vault import PRAGUE


class VaultStorage:
    """Puts and opens entries, and writes to the database as an attacker does."""

    def __init__(self, context: CredentialsContext) -> None:
        self.context = context

    async def put(self, array: str, owner: str, password: str, user: str = "bill") -> Entry:
        await self.context.vault.prepare(array)
        value = EntryValue(user, EntryKind.PASSWORD, Plaintext.of(password))

        def act(tx: Any) -> Entry:
            made = self.context.entries.upsert(tx, array, parse_owner(owner), parse_resource(PRAGUE), value)
            self.record(tx, row_text(made.name, made.encryption, made.row_sha256()))
            return made

        return await self.context.store.write(act)

    def record(self, tx: Any, text: str) -> None:
        tx.audit.append(system_event("test", self.context.now(), (("row", text),)))

    async def get(self, entry: Entry) -> Entry | None:
        found: Entry | None = await self.context.store.read(lambda tx: tx.entries.get(entry.array_id, entry.entry_uid))
        return found

    async def secret(self, entry: Entry) -> str:
        found = await self.get(entry)
        assert found is not None
        return (await self.context.entries.open_stored(self.context.store, found))[1].text()

    async def row(self, entry: Entry) -> dict[str, Any]:
        query = select(table).where(table.c.entry_uid == entry.entry_uid)
        row = await self.context.store.read(lambda tx: tx._connection.execute(query).mappings().one())
        return dict(row)

    async def overwrite(self, entry: Entry, values: dict[str, Any]) -> None:
        await self.execute(update(table).where(table.c.entry_uid == entry.entry_uid).values(**values))

    async def execute(self, statement: Any) -> None:
        await self.context.store.write(lambda tx: tx._connection.execute(statement))

    async def begin_rotation(self, array: str) -> Operation:
        """Give the array a new key; the operation that re-encrypts, of which no step has run."""
        keys, kek_id = self.context.keys, self.context.keys.new_id()
        keys.root.create(array, kek_id)
        begun: Operation = await self.context.store.write(lambda tx: keys.begin_rotation(tx, array, kek_id, "test"))
        return begun

    async def scrub(self) -> dict[str, str]:
        """What the scrubber says of each row, once the log has a checkpoint of everything."""
        log = self.context.store.audit_log()
        async with asyncio.timeout(10):
            while True:
                await asyncio.sleep(0)
                size = await log.read(lambda c, reader: reader.size(c))
                links = await log.read(
                    lambda c, _reader: c.exec_driver_sql("SELECT count(*) FROM audit_links").scalar()
                )
                if size == links:
                    break
        return dict((await scrubber(self.context).run()).alarms)


@asynccontextmanager
async def opened(settings: CredentialsSettings) -> AsyncIterator[VaultStorage]:
    """Open it, with the jobs of its database."""
    settings.state_directory.mkdir(mode=0o700, exist_ok=True, parents=True)
    migrate_file(settings, SCHEMA)
    async with STORAGE.open(settings, now=system_clock, process="test") as storage:
        assert isinstance(storage.context, CredentialsContext)
        jobs = [asyncio.ensure_future(job) for job in storage.jobs]
        try:
            yield VaultStorage(storage.context)
        finally:
            for job in jobs:
                job.cancel()
            await asyncio.gather(*jobs, return_exceptions=True)
