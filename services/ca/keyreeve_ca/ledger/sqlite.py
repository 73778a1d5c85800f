"""The ledger on SQLite: one writer commits the waiting groups of several workers together.

The coordinator holds the only writing connection (docs/adr/0003-one-writer-on-sqlite.md). Groups that arrive during one
commit form the next, so the cost of a commit is shared by more certificates under load.
"""

import asyncio
import sqlite3
from collections import deque
from collections.abc import Callable, Collection, Coroutine, Iterable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any

from sqlalchemy import Connection as SqlConnection
from sqlalchemy import true

from keyreeve.errors import StoreUnavailable
from keyreeve_ca.ledger import blocks, purging
from keyreeve_ca.ledger.commit_rules import GateFacts, Key, Settlement, records_of, refusal, serial_prefix
from keyreeve_ca.ledger.ports import BlockLease, BlockRequest, CommitGroup, GateClosed, RequestOutcome
from keyreeve_ca.ledger.wire import (
    NOT_AFTER,
    SERIAL,
    SQLITE_INSERT,
    CertificateTuple,
    GroupTuple,
    LedgerHandlers,
    Outcome,
    flat_group,
    outcomes_from,
    pack,
    row,
    unpack,
)
from keyreeve_ca.store import retention_sql
from keyreeve_ca.store.audit_tables import AUDIT
from keyreeve_ca.store.trust_tables import trust_tables_on
from keyreeve_chassis.audit.chains import ChainWriter
from keyreeve_chassis.audit.sql import cursor_of
from keyreeve_chassis.database.transactions import Database, store_errors, transaction
from keyreeve_chassis.processes.ipc import Connection, Handler
from keyreeve_chassis.trust_tables.seals import Seals

MAX_UNION = 32
"""Groups in one commit."""

_GATE = (
    "SELECT p.restore_generation, h.halted, a.state, b.restore_generation, b.authority_id, b.worker_id, b.state,"
    " b.committed, b.size,"
    " b.profile_hashes, b.number FROM control_plane p CROSS JOIN issuance_halt h LEFT JOIN authorities a ON a.authority_id = ?"
    " LEFT JOIN serial_blocks b ON b.block_id = ? WHERE p.id = 1"
)
_ADVANCE_BLOCK = (
    "UPDATE serial_blocks SET committed = ?, state = CASE WHEN ? >= size - 1 THEN 'closed' ELSE state END,"
    " first_not_after = coalesce(min(first_not_after, ?), first_not_after, ?),"
    " last_not_after = coalesce(max(last_not_after, ?), last_not_after, ?) WHERE block_id = ?"
)

_Answer = list[Outcome] | GateClosed


class SqliteLedger:
    """`CoordinatorLedger`; `database` is the writer's, with its one thread."""

    def __init__(
        self, database: Database, *, seals: Seals, now: Callable[[], int], writer: str = "coordinator"
    ) -> None:
        self._database = database
        self._seals = seals
        self._now = now
        self._chain = AUDIT.chain(writer, now, postgresql=False)
        self._waiting: deque[tuple[GroupTuple, Future[list[Outcome]]]] = deque()
        self._handlers = LedgerHandlers(self)

    async def lease_block(self, request: BlockRequest) -> BlockLease:
        """Record a block before its first use. Raises `GateClosed`, `StoreUnavailable`."""
        return await self._database.write(lambda c: blocks.lease(c, request, self._now()))

    async def commit(self, group: CommitGroup) -> Sequence[RequestOutcome]:
        """Commit a group behind the gate. Raises `GateClosed`, `StoreUnavailable`."""
        return outcomes_from(await self.commit_flat(flat_group(group)))

    async def commit_flat(self, group: GroupTuple) -> list[Outcome]:
        """`commit` for a group as tuples, as it arrives from a worker."""
        done: Future[list[Outcome]] = Future()
        self._waiting.append((group, done))
        self._database.submit(self._commit_waiting)
        return await asyncio.wrap_future(done)

    async def find_group(self, group_id: bytes) -> Sequence[RequestOutcome] | None:
        """Return a group's outcomes; when it is not in the ledger, make sure it never will be."""
        found = await self.find_group_flat(group_id)
        return None if found is None else outcomes_from(found)

    async def find_group_flat(self, group_id: bytes) -> list[Outcome] | None:
        """`find_group` with the outcomes as tuples."""

        def work(connection: SqlConnection) -> list[Outcome] | None:
            connection.exec_driver_sql(
                "INSERT INTO commit_groups (group_id, outcome, created_at) VALUES (?, NULL, ?) ON CONFLICT DO NOTHING",
                (group_id, self._now()),
            )
            found = connection.exec_driver_sql("SELECT outcome FROM commit_groups WHERE group_id = ?", (group_id,))
            outcome = found.scalar_one()
            return None if outcome is None else list(unpack(outcome))

        return await self._database.write(work)

    async def close_block(self, block_id: int, worker_id: str) -> bool:
        """Close a block that its worker no longer uses; False when it was not open or not the worker's."""
        return await self._database.write(lambda c: blocks.close(c, block_id, worker_id))

    async def void_blocks(self, block_ids: Collection[int]) -> int:
        """Void some blocks, such as those of a closed connection."""
        return await self._database.write(lambda c: blocks.void_by_id(c, block_ids))

    async def void_blocks_of(self, worker_id: str) -> int:
        """Void all open blocks of a worker that is gone."""
        return await self._database.write(lambda c: blocks.void_of_worker(c, worker_id))

    async def prepare(self) -> None:
        """Void every open block: workers of an earlier coordinator must not continue."""
        await self.void_orphans()

    async def start(self) -> None:
        """Do nothing: the coordinator is the only process that writes."""

    def jobs(self) -> Sequence[Coroutine[Any, Any, None]]:
        """None."""
        return ()

    def upkeep(self) -> Sequence[Coroutine[Any, Any, None]]:
        """None."""
        return ()

    async def end(self) -> None:
        """Do nothing."""

    def handlers(self) -> Mapping[str, Handler]:
        """Handlers for the workers, over the coordinator's socket."""
        return self._handlers.table()

    async def disconnected(self, connection: Connection) -> None:
        """Void the blocks leased over a connection that has closed."""
        await self._handlers.disconnected(connection)

    async def void_orphans(self) -> int:
        """Void every open block; returns how many."""
        return await self._database.write(lambda c: blocks.void(c, true()))

    async def close_chain(self) -> None:
        """End this process's audit chain."""
        await self._database.write(lambda c: self._chain.close(cursor_of(c)))

    async def purge(self, before: int, limit: int = 5_000) -> int:
        """Delete up to `limit` stored answers and groups of each kind older than `before`; return how many."""
        return await self._database.write(lambda c: purging.purge(c, before, limit))

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

    def _commit_waiting(self) -> None:
        """Commit what waits, in the writer's thread. Finds nothing when an earlier run took it along."""
        taken: dict[bytes, tuple[GroupTuple, Future[list[Outcome]]]] = {}
        while self._waiting and len(taken) < MAX_UNION:
            group, done = self._waiting[0]
            if group.group_id in taken:
                break  # handed in again: it finds its outcome in the ledger when the first has been committed
            self._waiting.popleft()
            if done.set_running_or_notify_cancel():
                taken[group.group_id] = (group, done)
        if taken:
            self._answer(list(taken.values()))

    def _answer(self, taken: list[tuple[GroupTuple, Future[list[Outcome]]]]) -> None:
        try:
            answers = self._commit_union([group for group, _ in taken])
        except StoreUnavailable as unavailable:
            for _, done in taken:
                done.set_exception(unavailable)
        except Exception as bug:  # noqa: BLE001  # it is raised to the sender of the group
            if len(taken) == 1:
                taken[0][1].set_exception(bug)
            else:  # one group is at fault and everything was rolled back: the others need not suffer for it
                for one in taken:
                    self._answer([one])
        else:
            for (_, done), answer in zip(taken, answers, strict=True):
                if isinstance(answer, GateClosed):
                    done.set_exception(answer)
                else:
                    done.set_result(answer)

    def _commit_union(self, groups: Sequence[GroupTuple]) -> list[_Answer]:
        with (
            store_errors(),
            self._database.engine.connect() as connection,
            transaction(connection, self._database.service),
        ):
            raw = connection.connection.driver_connection
            assert isinstance(raw, sqlite3.Connection)
            return _Union(raw.cursor(), self._now(), self._chain).commit(groups)


class _Union:
    """One transaction with several groups."""

    def __init__(self, cursor: sqlite3.Cursor, now: int, chain: ChainWriter) -> None:
        self._cursor = cursor
        self._now = now
        self._chain = chain
        self._numbers: dict[bytes, int] = {}
        self._last: dict[int, int] = {}

    def commit(self, groups: Sequence[GroupTuple]) -> list[_Answer]:
        answers = [self._pass_gate(group) for group in groups]
        admitted = [group for group, answer in zip(groups, answers, strict=True) if answer is None]
        settlement = Settlement([r for g in admitted for r in g.requests], _Statements(self._cursor, self._now))
        outcomes = settlement.outcomes()
        self._insert(settlement.certificates)
        self._advance(admitted, settlement.certificates)
        start = 0
        rows: list[tuple[bytes, bytes, int]] = []
        for at, answer in enumerate(answers):
            if answer is None:
                end = start + len(groups[at].requests)
                answers[at] = outcomes[start:end]
                rows.append((groups[at].group_id, pack(outcomes[start:end]), self._now))
                start = end
        self._cursor.executemany("INSERT INTO commit_groups (group_id, outcome, created_at) VALUES (?, ?, ?)", rows)
        requests = [request for group in admitted for request in group.requests]
        self._chain.append(self._cursor, records_of(requests, outcomes, self._now * 1000))
        return [answer for answer in answers if answer is not None]

    def _pass_gate(self, group: GroupTuple) -> _Answer | None:
        """Return why the gate refuses a group, or None. A repeated group gets its earlier outcome."""
        known = self._cursor.execute(
            "SELECT outcome FROM commit_groups WHERE group_id = ?", (group.group_id,)
        ).fetchone()
        if known is not None:
            return GateClosed("group") if known[0] is None else list(unpack(known[0]))
        row = self._cursor.execute(_GATE, (group.authority_id, group.block_id)).fetchone()
        facts = None if row is None else GateFacts(*row)
        committed = self._last.get(group.block_id, None if facts is None else facts.block_committed)
        why = refusal(group, facts, self._halted(), committed)
        if why is not None:
            return GateClosed(why)
        assert facts is not None
        assert facts.block_number is not None
        self._last[group.block_id] = group.last_counter
        self._numbers[serial_prefix(group.block_id)] = facts.block_number
        return None

    def _halted(self) -> set[bytes]:
        return {row[0] for row in self._cursor.execute("SELECT sha256 FROM profile_versions WHERE halted")}

    def _insert(self, certificates: Iterable[CertificateTuple]) -> None:
        numbers = self._numbers
        self._cursor.executemany(
            SQLITE_INSERT, [row(certificate, numbers[certificate[SERIAL][:6]]) for certificate in certificates]
        )

    def _advance(self, groups: Iterable[GroupTuple], certificates: Iterable[CertificateTuple]) -> None:
        ends: dict[bytes, tuple[int, int]] = {}
        for certificate in certificates:
            prefix, end = certificate[SERIAL][:6], certificate[NOT_AFTER]
            low, high = ends.get(prefix, (end, end))
            ends[prefix] = (min(low, end), max(high, end))
        for group in groups:
            first, last = ends.get(serial_prefix(group.block_id), (None, None))
            counter = group.last_counter
            self._cursor.execute(_ADVANCE_BLOCK, (counter, counter, first, first, last, last, group.block_id))


class _Statements:
    """`conflict_resolution.Steps` on SQLite, where this is the only writing transaction."""

    def __init__(self, cursor: sqlite3.Cursor, now: int) -> None:
        self._cursor = cursor
        self._now = now

    def token_states(self, token_ids: Collection[bytes]) -> dict[bytes, tuple[str, bytes | None]]:
        select = "SELECT state, spki_sha256 FROM enrollment_tokens WHERE token_id = ?"
        return {token: row for token in token_ids for row in self._cursor.execute(select, (token,))}

    def blocked(self, spkis: Collection[bytes]) -> Collection[bytes]:
        if self._cursor.execute("SELECT 1 FROM blocked_keys LIMIT 1").fetchone() is None:
            return ()
        select = "SELECT 1 FROM blocked_keys WHERE spki_sha256 = ?"
        return {spki for spki in spkis if self._cursor.execute(select, (spki,)).fetchone() is not None}

    def claim(self, rows: Sequence[tuple[str, str, str, bytes, bytes]]) -> int:
        return self._cursor.executemany(
            "INSERT INTO requests (caller, method, request_id, payload_sha256, items, created_at)"
            " VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
            [(*row, self._now) for row in rows],
        ).rowcount

    def claims(self, keys: Collection[Key]) -> dict[Key, tuple[bytes, bytes | None]]:
        select = "SELECT payload_sha256, items FROM requests WHERE caller = ? AND method = ? AND request_id = ?"
        return {key: row for key in keys for row in self._cursor.execute(select, key)}

    def correct(self, rows: Sequence[tuple[Key, bytes | None]]) -> None:
        where = "WHERE caller = ? AND method = ? AND request_id = ?"
        self._cursor.executemany(
            f"UPDATE requests SET items = ? {where}",  # noqa: S608
            [(items, *key) for key, items in rows if items is not None],
        )
        self._cursor.executemany(f"DELETE FROM requests {where}", [key for key, items in rows if items is None])  # noqa: S608

    def bind(self, rows: Sequence[tuple[bytes, str]]) -> int:
        return self._cursor.executemany(
            "INSERT INTO key_bindings (spki_sha256, identity) VALUES (?, ?) ON CONFLICT DO NOTHING", rows
        ).rowcount

    def bound(self, spkis: Collection[bytes]) -> dict[bytes, str]:
        select = "SELECT identity FROM key_bindings WHERE spki_sha256 = ?"
        return {spki: row[0] for spki in spkis for row in self._cursor.execute(select, (spki,))}

    def renew(self, rows: Sequence[tuple[bytes, bytes, bytes]]) -> int:
        return self._cursor.executemany(
            "INSERT INTO renewals (predecessor, successor, spki_sha256) VALUES (?, ?, ?) ON CONFLICT DO NOTHING", rows
        ).rowcount

    def renewed(self, predecessors: Collection[bytes]) -> dict[bytes, tuple[bytes, bytes]]:
        select = "SELECT successor, spki_sha256 FROM renewals WHERE predecessor = ?"
        return {p: row for p in predecessors for row in self._cursor.execute(select, (p,))}

    def withdraw_renewals(self, predecessors: Collection[bytes]) -> None:
        self._cursor.executemany("DELETE FROM renewals WHERE predecessor = ?", [(p,) for p in predecessors])
