"""A service's audit log in its database: its key, checkpoints, and reading."""

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from sqlalchemy import Connection, insert, select, text

from keyreeve.audit.log import Checkpoint, Link, Registration
from keyreeve.audit.verifying import Problem, Witnessed
from keyreeve.errors import AuditCheckpointNotFound
from keyreeve_chassis.audit import checkpoints
from keyreeve_chassis.audit.chains import ChainWriter
from keyreeve_chassis.audit.checkpoints import Checkpointer
from keyreeve_chassis.audit.reading import AuditReader, Keep, Page, SignedBody
from keyreeve_chassis.audit.sql import AuditSchema
from keyreeve_chassis.database.transactions import Database
from keyreeve_chassis.keys.key_types import KeyType
from keyreeve_chassis.keys.ports import KeyStore, KeyStoreError, SealedKey, Signer
from keyreeve_chassis.keys.sql import add_key

T = TypeVar("T")
_FIRST_KEY_LOCK = zlib.crc32(b"keyreeve audit signer")


@dataclass(frozen=True, slots=True)
class Verified:
    """The result of a verification step; `done` at the end of the log, else continue after checkpoint `k`."""

    k: int
    done: bool
    links: int
    records: int
    purged: int
    tail_links: int
    problems: tuple[Problem, ...]


@dataclass(frozen=True)
class SqlAuditLog:
    """The audit log. `reader` reads snapshots; `writer` is None in a read-only process."""

    schema: AuditSchema
    reader: Database
    writer: Database | None

    @property
    def log(self) -> AuditReader:
        """A reader on the connection."""
        return AuditReader(self.schema.tables)

    def chain(self, writer: str, now: Callable[[], int]) -> ChainWriter:
        """A chain of this process; `now` in seconds since 1970."""
        return self.schema.chain(writer, now, postgresql=not self.reader.is_sqlite)

    async def signer(self, keystore: KeyStore) -> Signer:
        """Open the audit key; a new log gets a new key. Raises `KeyStoreError` when a log has lost its key."""
        assert self.writer is not None
        return keystore.open(await self.writer.write(lambda c: _signing_key(c, self.schema, keystore)))

    async def spki(self) -> bytes:
        """The audit public key; empty before the coordinator's first start has created it."""
        return await self.reader.read(self.stored_spki)

    def stored_spki(self, connection: Connection) -> bytes:
        """`spki` on a given connection."""
        found = _stored_key(connection, self.schema)
        return b"" if found is None else found.spki

    async def checkpoint(self, checkpointer: Checkpointer) -> Checkpoint | None:
        """Sign the next checkpoint, unless there is nothing new or another process leads."""
        assert self.writer is not None
        return await self.writer.write(checkpointer.run)

    async def abandon_orphans(self) -> int:
        """End the chains of processes that are gone."""
        assert self.writer is not None
        return await self.writer.write(self.schema.abandon_orphans)

    async def purge(self, before: int) -> int:
        """Delete records older than a time (ms since 1970), keeping their hashes; return the number of commits."""
        assert self.writer is not None
        return await self.writer.write(lambda c: self.log.purge(c, before))

    async def read(self, work: Callable[[Connection, AuditReader], T]) -> T:
        """Run `work` on a snapshot."""
        return await self.reader.read(lambda c: work(c, self.log))

    async def page(
        self,
        keep: Keep,
        start: tuple[int, int] | None,
        *,
        limit: int,
        newest_first: bool,
        since: int = 0,
        until: int | None = None,
    ) -> Page:
        """Records from a position, or from either end of the log; times in milliseconds since 1970."""

        def work(connection: Connection, log: AuditReader) -> Page:
            between = log.around(connection, since, until)
            at = start
            if at is None:
                top = between[1] if between[1] is not None else log.size(connection)
                at = (top - 1, 0) if newest_first else (between[0], 0)
            return log.page(connection, keep, at, limit=limit, newest_first=newest_first, between=between)

        return await self.read(work)

    async def entries(
        self, after: int, position: int, most_links: int
    ) -> tuple[list[Registration | Link | SignedBody], tuple[int, int] | None]:
        """The entries of a checkpoint from a position on, and where to continue."""
        return await self.read(lambda c, log: log.entries(c, after, position, most_links))

    async def signed(self, k: int = 0) -> SignedBody:
        """A checkpoint by number; the newest for 0. Raises `AuditCheckpointNotFound`."""

        def work(connection: Connection, log: AuditReader) -> tuple[bytes, bytes] | None:
            number = k or checkpoints.last_number(connection, log.tables)
            return checkpoints.checkpoint_row(connection, log.tables, number)

        row = await self.read(work)
        if row is None:
            which = f"checkpoint {k}" if k else "checkpoint yet"
            raise AuditCheckpointNotFound(f"there is no {which}", metadata={"checkpoint": str(k)})
        return SignedBody(*row)

    async def proof(self, old: Checkpoint, new: Checkpoint) -> list[bytes]:
        """A consistency proof between two checkpoints. Raises `LookupError` when rows are missing."""
        return await self.read(lambda c, log: log.proof(c, old, new))

    async def verify(self, after: int, most_links: int, witnessed: Sequence[Witnessed]) -> Verified:
        """Verify the tables after a checkpoint, up to about `most_links` commits."""
        spki = await self.spki()

        def work(connection: Connection, log: AuditReader) -> Verified:
            verifier, done = log.verify(connection, spki, after=after, most_links=most_links, witnessed=witnessed)
            return Verified(
                verifier.last.k if verifier.last else after,
                done,
                verifier.links,
                verifier.records,
                verifier.purged,
                verifier.tail_links,
                tuple(verifier.problems),
            )

        return await self.read(work)


def _stored_key(connection: Connection, schema: AuditSchema) -> SealedKey | None:
    keys, signers = schema.keys, schema.tables.signers
    row = connection.execute(
        select(keys).join(signers, signers.c.key_id == keys.c.key_id).where(signers.c.number == 1)
    ).one_or_none()
    return None if row is None else SealedKey(row.key_id, KeyType(row.key_type), row.spki, row.sealed or b"")


def _signing_key(connection: Connection, schema: AuditSchema, keystore: KeyStore) -> SealedKey:
    found = _stored_key(connection, schema)
    if found is None and connection.dialect.name == "postgresql":
        # Replicas that start for the first time at once make one key.
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _FIRST_KEY_LOCK})
        found = _stored_key(connection, schema)
    if found is not None:
        return found
    if checkpoints.last_number(connection, schema.tables):
        raise KeyStoreError(
            "the audit log has lost its key",
            "Restore the tables audit_signers and keys from a backup: a new key proves nothing",
        )
    made = keystore.generate(KeyType.P256)
    add_key(connection, schema.keys, made)
    connection.execute(insert(schema.tables.signers).values(number=1, key_id=made.key_id))
    return made
