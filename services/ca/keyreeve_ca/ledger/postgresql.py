"""The ledger on PostgreSQL: each worker commits its own groups with COPY, behind shared locks.

Statements that need no answer before the next go out together (pipeline mode), so a commit takes four round trips.
"""

import asyncio
from collections.abc import Collection, Coroutine, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import psycopg
from sqlalchemy import Connection as SqlConnection

from keyreeve.errors import StoreUnavailable
from keyreeve_ca.ledger import blocks, liveness, partitions, purging
from keyreeve_ca.ledger.commit_rules import ADVISORY_KEY, GateFacts, Key, Settlement, records_of, refusal
from keyreeve_ca.ledger.ports import BlockLease, BlockRequest, CommitGroup, GateClosed, RequestOutcome
from keyreeve_ca.ledger.wire import (
    NOT_AFTER,
    POSTGRESQL_COPY,
    POSTGRESQL_TYPES,
    SPKI,
    CertificateTuple,
    GroupTuple,
    Outcome,
    flat_group,
    is_certificate,
    outcomes_from,
    pack,
    row,
    unpack,
)
from keyreeve_ca.store import retention_sql
from keyreeve_ca.store.audit_tables import AUDIT
from keyreeve_ca.store.retention import PASS_SECONDS
from keyreeve_ca.store.tables import workers
from keyreeve_ca.store.trust_tables import trust_tables_on
from keyreeve_chassis.audit.chains import ChainWriter
from keyreeve_chassis.audit.sql import cursor_of
from keyreeve_chassis.database.transactions import Database
from keyreeve_chassis.database.writers import (
    LEASE_SECONDS,
    LeaseKeeping,
    database_seconds,
    extend_writer,
    is_writer_alive,
    register_writer,
)
from keyreeve_chassis.processes.ipc import Connection, Handler
from keyreeve_chassis.processes.lifecycle import every
from keyreeve_chassis.trust_tables.seals import Seals

_LOCK = "SELECT pg_advisory_xact_lock_shared(%s)"
_CONTROL_PLANE = "SELECT p.restore_generation, h.halted FROM control_plane p, issuance_halt h FOR SHARE"
_AUTHORITY = "SELECT state FROM authorities WHERE authority_id = %s FOR SHARE"
_PROFILES = "SELECT sha256, halted FROM profile_versions WHERE sha256 = ANY(%b) FOR SHARE"
_BLOCKED = "SELECT spki_sha256 FROM blocked_keys WHERE spki_sha256 = ANY(%b)"
_BLOCK = (
    "SELECT restore_generation, authority_id, worker_id, state, committed, size, profile_hashes, number"
    " FROM serial_blocks WHERE block_id = %s FOR NO KEY UPDATE"
)
_KNOWN = "SELECT outcome FROM commit_groups WHERE group_id = %b"
_NOW = "floor(extract(epoch FROM clock_timestamp()))::bigint"
_CLAIM = (
    f"INSERT INTO requests (caller, method, request_id, payload_sha256, items, created_at) SELECT *, {_NOW}"  # noqa: S608
    " FROM unnest(%b::text[], %b::text[], %b::text[], %b::bytea[], %b::bytea[]) ON CONFLICT DO NOTHING"
)
_ADVANCE_BLOCK = (
    "UPDATE serial_blocks SET committed = %s, state = CASE WHEN %s >= size - 1 THEN 'closed' ELSE state END,"
    " first_not_after = least(first_not_after, %s), last_not_after = greatest(last_not_after, %s) WHERE block_id = %s"
)
_RECORD_GROUP = (
    f"INSERT INTO commit_groups (group_id, outcome, created_at) VALUES (%b, %b, {_NOW})"  # noqa: S608
    " ON CONFLICT DO NOTHING RETURNING 1"
)


class PostgresqlLedger:
    """`CoordinatorLedger` for one process, a worker or a coordinator.

    Groups are committed one at a time, in the order they are handed in.
    """

    def __init__(self, database: Database, worker_id: str = "worker", *, seals: Seals) -> None:
        self._database = database
        self._seals = seals
        self._worker_id = worker_id
        self._chain = AUDIT.chain(worker_id, lambda: 0, postgresql=True)
        self._turn = asyncio.Lock()

    async def lease_block(self, request: BlockRequest) -> BlockLease:
        """Record a block before its first use. Raises `GateClosed`, `StoreUnavailable`."""

        def work(connection: SqlConnection) -> BlockLease:
            now = database_seconds(connection)
            if not is_writer_alive(connection, workers, request.worker_id, now):
                raise GateClosed("worker")
            return blocks.lease(connection, request, now)

        return await self._database.write(work)

    async def commit(self, group: CommitGroup) -> Sequence[RequestOutcome]:
        """Commit a group behind the gate. Raises `GateClosed`, `StoreUnavailable`."""
        flat = flat_group(group)
        async with self._turn:  # the gate wants counters in order
            return outcomes_from(await self._database.write(lambda c: _commit(c, flat, self._chain)))

    async def find_group(self, group_id: bytes) -> Sequence[RequestOutcome] | None:
        """Return a group's outcomes; when it is not in the ledger, make sure it never will be.

        If its commit is still running in the database, the insertion waits for it.
        """

        def work(connection: SqlConnection) -> bytes | None:
            cursor = _cursor(connection)
            cursor.execute(_RECORD_GROUP, (group_id, None))
            row = cursor.execute(_KNOWN, (group_id,)).fetchone()
            if row is None:
                raise StoreUnavailable("a group was purged while it was being looked up")
            outcome: bytes | None = row[0]
            return outcome

        found = await self._database.write(work)
        return None if found is None else outcomes_from(unpack(found))

    async def close_block(self, block_id: int, worker_id: str) -> bool:
        """Close a block that its worker no longer uses; False when it was not open or not the worker's."""
        return await self._database.write(lambda c: blocks.close(c, block_id, worker_id))

    async def prepare(self) -> None:
        """Create the partitions of the time to come."""
        await self.extend_partitions()

    async def start(self) -> None:
        """Register this process's lease, which `lease_block` demands."""
        await self.register_worker(self._worker_id, LEASE_SECONDS)

    def jobs(self) -> Sequence[Coroutine[Any, Any, None]]:
        """Extend the lease; fails with `WriterExpired` or `PrimaryNotFound`."""
        extend = partial(self.extend_worker, self._worker_id, LEASE_SECONDS)
        return (every(LEASE_SECONDS / 4, LeaseKeeping(self._worker_id, extend)),)

    def upkeep(self) -> Sequence[Coroutine[Any, Any, None]]:
        """Void the blocks of processes whose lease has expired, and maintain the partitions."""
        return every(LEASE_SECONDS, self.void_orphans), every(PASS_SECONDS, self.tend_partitions)

    async def end(self) -> None:
        """End the lease."""
        await self.deregister_worker(self._worker_id)

    def handlers(self) -> Mapping[str, Handler]:
        """None: each worker writes by itself."""
        return {}

    async def disconnected(self, connection: Connection) -> None:
        """Nothing: blocks belong to leases, not to connections."""

    async def register_worker(self, worker_id: str, lease_seconds: int) -> None:
        """Register a worker's lease, which `lease_block` demands; a worker id is used once."""
        await self._database.write(lambda c: register_writer(c, workers, worker_id, lease_seconds))

    async def extend_worker(self, worker_id: str, lease_seconds: int) -> bool:
        """Extend a lease; False when it has expired: use a new worker id and new blocks."""
        return await self._database.write(lambda c: extend_writer(c, workers, worker_id, lease_seconds))

    async def deregister_worker(self, worker_id: str) -> int:
        """End a lease and void the worker's remaining blocks; return how many."""
        return await self._database.write(lambda c: liveness.deregister(c, worker_id))

    async def void_blocks_of(self, worker_id: str) -> int:
        """Void all open blocks of a worker that is gone."""
        return await self._database.write(lambda c: blocks.void_of_worker(c, worker_id))

    async def void_orphans(self) -> int:
        """Void the open blocks of workers whose lease has expired; any process may call this."""
        return await self._database.write(liveness.void_orphans)

    async def close_chain(self) -> None:
        """End this process's audit chain."""
        await self._database.write(lambda c: self._chain.close(cursor_of(c)))

    async def purge(self, before: int, limit: int = 5_000) -> int:
        """Delete up to `limit` stored answers and groups of each kind older than `before`; return how many."""
        return await self._database.write(lambda c: purging.purge(c, before, limit))

    async def extend_partitions(self) -> int:
        """Create partitions for the time to come; return how many."""
        return await self._database.write(partitions.extend)

    async def tend_partitions(self) -> None:
        """Create partitions for the time to come, and drop empty ones of the past."""
        await self.extend_partitions()
        await self._database.write(partitions.drop_empty)

    async def expired_block(self, before: int, first: int) -> int | None:
        """See `retention.Purging`."""
        return await self._database.read(lambda c: retention_sql.expired_block(c, before, first))

    async def purge_certificates(self, block_id: int, before: int, limit: int) -> int | None:
        """See `retention.Purging`."""
        return await self._database.write(
            lambda c: retention_sql.purge_certificates(c, trust_tables_on(c, self._seals), block_id, before, limit)
        )

    async def ended_sessions(self, before: int, limit: int) -> Sequence[str]:
        """See `retention.Purging`."""
        return await self._database.read(lambda c: retention_sql.ended_sessions(c, before, limit))

    async def purge_sessions(self, session_ids: Sequence[str]) -> int | None:
        """See `retention.Purging`."""
        return await self._database.write(
            lambda c: retention_sql.purge_sessions(c, trust_tables_on(c, self._seals), session_ids)
        )


def _commit(connection: SqlConnection, group: GroupTuple, chain: ChainWriter) -> list[Outcome]:
    raw = _raw(connection)
    known, facts, halted, blocked, head_row = _read_gate(raw, group, chain)
    if known is not None:
        if known[0] is None:
            raise GateClosed("group")
        return list(unpack(known[0]))
    why = refusal(group, facts, halted, None if facts is None else facts.block_committed)
    if why is not None:
        raise GateClosed(why)
    assert facts is not None
    assert facts.block_number is not None
    settlement = Settlement(group.requests, _Statements(raw.cursor(), blocked))
    outcomes = settlement.outcomes()
    _copy(raw, settlement.certificates, facts.block_number)
    ends = [certificate[NOT_AFTER] for certificate in settlement.certificates]
    last = group.last_counter
    cursor = raw.cursor()
    head = chain.head_from(head_row, cursor)
    with raw.pipeline():
        chain.append(cursor, records_of(group.requests, outcomes, head.now), head)
        raw.execute(_ADVANCE_BLOCK, (last, last, min(ends, default=None), max(ends, default=None), group.block_id))
        recorded = raw.execute(_RECORD_GROUP, (group.group_id, pack(outcomes)))
    if recorded.fetchone() is None:  # it was looked up meanwhile
        raise GateClosed("group")
    return outcomes


def _read_gate(
    raw: psycopg.Connection[Any], group: GroupTuple, chain: ChainWriter
) -> tuple[tuple[bytes | None] | None, GateFacts | None, list[bytes], set[bytes], tuple[Any, ...] | None]:
    """Lock and read what the gate needs: earlier outcome, facts, halted profiles, blocked keys, audit chain head."""
    spkis = [item[SPKI] for request in group.requests for item in request.items if is_certificate(item)]
    with raw.pipeline():
        raw.execute(_LOCK, (ADVISORY_KEY,))
        control_plane = raw.execute(_CONTROL_PLANE)
        authority = raw.execute(_AUTHORITY, (group.authority_id,))
        profiles = raw.execute(_PROFILES, (list(group.profile_hashes),))
        # Blocking a key waits for the gate's lock.
        blocked = raw.execute(_BLOCKED, (spkis,), binary=True)
        block = raw.execute(_BLOCK, (group.block_id,))
        # After the block's lock: the same group, handed in twice at once, was committed by the previous holder of the lock.
        known = raw.execute(_KNOWN, (group.group_id,))
        head = raw.execute(*chain.lock_statement)
    control_plane_row, authority_row, block_row = control_plane.fetchone(), authority.fetchone(), block.fetchone()
    facts = None
    if control_plane_row is not None:
        facts = GateFacts(
            control_plane_row[0],
            control_plane_row[1],
            None if authority_row is None else authority_row[0],
            *(block_row or (None,) * 8),
        )
    halted_profiles = [sha256 for sha256, halted in profiles if halted]
    return known.fetchone(), facts, halted_profiles, {spki for (spki,) in blocked}, head.fetchone()


def _copy(raw: psycopg.Connection[Any], certificates: Sequence[CertificateTuple], block_number: int) -> None:
    if not certificates:
        return
    with raw.cursor() as cursor, cursor.copy(POSTGRESQL_COPY) as copy:
        copy.set_types(POSTGRESQL_TYPES)
        for certificate in certificates:
            copy.write_row(row(certificate, block_number))


class _Statements:
    """`conflict_resolution.Steps` on PostgreSQL: a conflict waits for the other transaction's end."""

    def __init__(self, cursor: psycopg.Cursor[Any], blocked: set[bytes]) -> None:
        self._cursor = cursor
        self._blocked = blocked

    def blocked(self, spkis: Collection[bytes]) -> Collection[bytes]:
        return self._blocked.intersection(spkis)

    def token_states(self, token_ids: Collection[bytes]) -> dict[bytes, tuple[str, bytes | None]]:
        # The gate's lock, which revoking a token takes too, keeps them as they are.
        found = self._cursor.execute(
            "SELECT token_id, state, spki_sha256 FROM enrollment_tokens WHERE token_id = ANY(%b)",
            (list(token_ids),),
            binary=True,
        )
        return {token: (state, spki) for token, state, spki in found}

    def claim(self, rows: Sequence[tuple[str, str, str, bytes, bytes]]) -> int:
        return self._insert(_CLAIM, rows)

    def claims(self, keys: Collection[Key]) -> dict[Key, tuple[bytes, bytes | None]]:
        found = self._cursor.execute(
            "SELECT caller, method, request_id, payload_sha256, items FROM requests"
            " JOIN unnest(%b::text[], %b::text[], %b::text[]) AS k (c, m, r)"
            " ON caller = k.c AND method = k.m AND request_id = k.r",
            _columns(keys),
            binary=True,
        )
        return {tuple(row[:3]): (row[3], row[4]) for row in found}

    def correct(self, rows: Sequence[tuple[Key, bytes | None]]) -> None:
        where = "WHERE caller = %s AND method = %s AND request_id = %s"
        for key, items in rows:
            if items is None:
                self._cursor.execute(f"DELETE FROM requests {where}", key)  # noqa: S608
            else:
                self._cursor.execute(f"UPDATE requests SET items = %b {where}", (items, *key))  # noqa: S608

    def bind(self, rows: Sequence[tuple[bytes, str]]) -> int:
        return self._insert(
            "INSERT INTO key_bindings (spki_sha256, identity) SELECT * FROM unnest(%b::bytea[], %b::text[])"
            " ON CONFLICT DO NOTHING",
            rows,
        )

    def bound(self, spkis: Collection[bytes]) -> dict[bytes, str]:
        return dict(
            self._cursor.execute(
                "SELECT spki_sha256, identity FROM key_bindings WHERE spki_sha256 = ANY(%b)",
                (list(spkis),),
                binary=True,
            )
        )

    def renew(self, rows: Sequence[tuple[bytes, bytes, bytes]]) -> int:
        return self._insert(
            "INSERT INTO renewals (predecessor, successor, spki_sha256)"
            " SELECT * FROM unnest(%b::bytea[], %b::bytea[], %b::bytea[]) ON CONFLICT DO NOTHING",
            rows,
        )

    def renewed(self, predecessors: Collection[bytes]) -> dict[bytes, tuple[bytes, bytes]]:
        found = self._cursor.execute(
            "SELECT predecessor, successor, spki_sha256 FROM renewals WHERE predecessor = ANY(%b)",
            (list(predecessors),),
            binary=True,
        )
        return {predecessor: (successor, spki) for predecessor, successor, spki in found}

    def withdraw_renewals(self, predecessors: Collection[bytes]) -> None:
        self._cursor.execute("DELETE FROM renewals WHERE predecessor = ANY(%b)", (list(predecessors),))

    def _insert(self, statement: str, rows: Iterable[Sequence[object]]) -> int:
        return self._cursor.execute(statement, _columns(rows)).rowcount


def _columns(rows: Iterable[Sequence[object]]) -> list[list[object]]:
    return [list(column) for column in zip(*rows, strict=True)]


def _raw(connection: SqlConnection) -> "psycopg.Connection[Any]":
    raw = connection.connection.driver_connection
    assert isinstance(raw, psycopg.Connection)
    return raw


def _cursor(connection: SqlConnection) -> "psycopg.Cursor[Any]":
    return _raw(connection).cursor()
