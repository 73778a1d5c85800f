"""A service's store on SQLAlchemy Core: transactions that carry their audit records (SQLite and PostgreSQL)."""

from collections.abc import Callable, Sequence
from typing import Any, Generic, Protocol, TypeVar

from sqlalchemy import Connection

from keyreeve_chassis.audit.log import SqlAuditLog
from keyreeve_chassis.audit.sql import cursor_of
from keyreeve_chassis.database.transactions import Database

T = TypeVar("T")


class ReadOnly(Exception):
    """A read transaction called a writing method: a bug in the caller."""


class SqlTransaction:
    """One database transaction: the base of a service's own, which adds its tables."""

    def __init__(self, connection: Connection, *, now: int, writable: bool) -> None:
        """Take the connection; `now` is in seconds since 1970."""
        self._connection = connection
        self._now = now
        self._writable = writable
        self.records: list[bytes] = []

    @property
    def audit(self) -> list[bytes]:
        """Audit records to commit with this transaction; append to it."""
        self._must_be_writable()
        return self.records

    def complete(self) -> None:
        """Write what belongs at the end of a transaction, before its audit records."""

    def _must_be_writable(self) -> None:
        if not self._writable:
            raise ReadOnly("a read may not write: use Store.write")

    def _write(self, statement: Any, values: Any = None) -> Any:  # noqa: ANN401  # each statement has its own kind of result
        """Execute a statement with values, or once for each of a list of values."""
        self._must_be_writable()
        return self._connection.execute(statement, values)


TxT = TypeVar("TxT", bound=SqlTransaction)
TxT_co = TypeVar("TxT_co", bound=SqlTransaction, covariant=True)


class MakeTransaction(Protocol[TxT_co]):
    """Makes a service's transaction on a connection."""

    def __call__(self, connection: Connection, *, now: int, writable: bool) -> TxT_co: ...


class SqlStore(Generic[TxT]):
    """Runs transactions. A process that may only read, such as a worker on SQLite, has an audit log without a writer.

    A write is serializable because it is alone: on SQLite there is one writer, and on PostgreSQL `lock` keeps others out.
    """

    def __init__(
        self,
        audit: SqlAuditLog,
        make: MakeTransaction[TxT],
        *,
        lock: Callable[[Connection], None],
        process: str,
        now: Callable[[], int],
    ) -> None:
        """Take the audit log, with whose reader and writer it works; `process` names this process's audit chains."""
        self._audit = audit
        self._make = make
        self._lock = lock
        self._now = now
        # Two chains: what commits with its act never waits for what is recorded alone.
        self._acts, self._calls = audit.chain(process, now), audit.chain(process, now)

    async def read(self, work: Callable[[TxT], T], *, one_statement: bool = False) -> T:
        """Run `work` on a read-only snapshot."""
        return await self._reader.read(
            lambda connection: work(self._transaction(connection, writable=False)), one_statement=one_statement
        )

    def read_here(self, work: Callable[[TxT], T]) -> T:
        """`read` in the calling thread, for commands without an event loop."""
        return self._reader.read_here(lambda connection: work(self._transaction(connection, writable=False)))

    async def write(self, work: Callable[[TxT], T]) -> T:
        """Run `work` serializably and commit it; it may run again. Raises `StoreUnavailable`."""

        def alone(connection: Connection) -> T:
            if not self._writer.is_sqlite:
                self._lock(connection)
            return self._do(connection, work)

        return await self._writer.write(alone)

    async def write_beside(self, work: Callable[[TxT], T]) -> T:
        """`write` without the lock, for statements that are safe under concurrency."""
        return await self._writer.write(lambda connection: self._do(connection, work))

    def audit_log(self) -> SqlAuditLog:
        """The audit log."""
        return self._audit

    async def append_audit(self, records: Sequence[bytes]) -> None:
        """Commit records of calls that commit nothing else. Raises `StoreUnavailable`."""
        await self._writer.write(lambda connection: self._calls.append(cursor_of(connection), records))

    async def close_chains(self) -> None:
        """End this process's audit chains."""
        if self._audit.writer is not None:
            await self._audit.writer.write(lambda c: self._acts.close(cursor_of(c)))
            await self._audit.writer.write(lambda c: self._calls.close(cursor_of(c)))

    @property
    def _reader(self) -> Database:
        return self._audit.reader

    @property
    def _writer(self) -> Database:
        if self._audit.writer is None:
            raise ReadOnly("this process reads only: forward the request to the coordinator")
        return self._audit.writer

    def _do(self, connection: Connection, work: Callable[[TxT], T]) -> T:
        tx = self._transaction(connection, writable=True)
        result = work(tx)
        tx.complete()
        self._acts.append(cursor_of(connection), tx.records)
        return result

    def _transaction(self, connection: Connection, *, writable: bool) -> TxT:
        return self._make(connection, now=self._now(), writable=writable)
