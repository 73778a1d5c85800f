"""Appending to a chain: the link of one commit, written in the transaction whose acts its records describe.

The chain's row holds its head and is locked by the appender, so a link refers to the one before it whatever became of
commits that gave no answer. Both databases speak the same statements through their own drivers' cursors.
"""

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from keyreeve.audit.log import ChainState, Registration, leaves_of, link_hash
from keyreeve.errors import StoreUnavailable
from keyreeve.length_prefix import length_prefixed


class Cursor(Protocol):
    """The common part of both drivers' cursors."""

    def execute(self, statement: str, parameters: Sequence[object] = ..., /) -> Any: ...  # noqa: ANN401
    def fetchone(self) -> Any: ...  # noqa: ANN401


@dataclass(frozen=True, slots=True)
class ChainHead:
    """A chain's last link, and the database's time in milliseconds since 1970."""

    n: int
    link: bytes
    now: int


@dataclass(frozen=True)
class ChainWriter:
    """One chain of this process, registered with its first link.

    `restore_generation` reads the number that rises when the database is restored; `now` is the clock, in seconds,
    for SQLite, which has none of its own.
    """

    writer: str
    postgresql: bool
    restore_generation: Callable[[Cursor], int]
    now: Callable[[], int]
    chain: bytes = field(default_factory=lambda: uuid.uuid4().bytes)

    @property
    def lock_statement(self) -> tuple[str, tuple[object, ...]]:
        """The statement that reads and locks the head, for a caller that pipelines statements."""
        if self.postgresql:
            now = "floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint"
            return (
                f"SELECT n, head, state, {now} FROM audit_chains WHERE chain_id = %s FOR UPDATE",  # noqa: S608
                (self.chain,),
            )
        return "SELECT n, head, state, NULL FROM audit_chains WHERE chain_id = ?", (self.chain,)

    def lock(self, cursor: Cursor) -> ChainHead:
        """Lock the chain and return its head; the first link registers the chain."""
        cursor.execute(*self.lock_statement)
        return self.head_from(cursor.fetchone(), cursor)

    def head_from(self, row: Sequence[Any] | None, cursor: Cursor) -> ChainHead:
        """Convert the row of `lock_statement` to the head. Raises `StoreUnavailable` when the chain has ended."""
        if row is None:
            return self._register(cursor)
        n, link, state, now = row
        if state != ChainState.OPEN:
            raise StoreUnavailable("the audit chain of this process has been ended; the process must start again")
        return ChainHead(n, link, self.now() * 1000 if now is None else now)

    def append(self, cursor: Cursor, records: Sequence[bytes], head: ChainHead | None = None) -> None:
        """Append one link with these records; does nothing without records."""
        if not records:
            return
        before = self.lock(cursor) if head is None else head
        leaves = leaves_of(records)
        n = before.n + 1
        link = link_hash(self.chain, n, before.link, leaves, before.now)
        cursor.execute(
            self._spelled(
                "INSERT INTO audit_links (chain_id, n, db_time, link, leaves, bodies) VALUES (?, ?, ?, ?, ?, ?)"
            ),
            (self.chain, n, before.now, link, b"".join(leaves), length_prefixed(*records)),
        )
        cursor.execute(
            self._spelled("UPDATE audit_chains SET n = ?, head = ? WHERE chain_id = ?"), (n, link, self.chain)
        )

    def close(self, cursor: Cursor) -> None:
        """End the chain; nothing can be appended any more."""
        cursor.execute(
            self._spelled("UPDATE audit_chains SET state = 'closed' WHERE chain_id = ? AND state = 'open'"),
            (self.chain,),
        )

    def _register(self, cursor: Cursor) -> ChainHead:
        now = self.now() * 1000
        if self.postgresql:
            cursor.execute("SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint")
            now = cursor.fetchone()[0]
        registration = Registration(self.chain, self.restore_generation(cursor), self.writer, now)
        genesis = registration.genesis()
        cursor.execute(
            self._spelled(
                "INSERT INTO audit_chains (chain_id, restore_generation, writer, registered_at, state, n, head, settled)"
                " VALUES (?, ?, ?, ?, 'open', 0, ?, ?)"
            ),
            (*registration, genesis, False),
        )
        return ChainHead(0, genesis, now)

    def _spelled(self, statement: str) -> str:
        return statement.replace("?", "%s") if self.postgresql else statement
