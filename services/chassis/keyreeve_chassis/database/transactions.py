"""Where a durable step is committed: the only `COMMIT` of a service, its failpoints, and what a failure means.

`Database.write` and `Database.read` run a function of a connection in a thread. An error of the database itself (no
connection, a full disk, a lock or time limit) becomes `StoreUnavailable`; an error in our use of it propagates.
"""

import asyncio
import sqlite3
from collections.abc import Callable, Iterator, Set
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import psycopg
from sqlalchemy import Connection, Engine, event
from sqlalchemy.exc import DBAPIError, InterfaceError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from keyreeve.errors import StoreUnavailable
from keyreeve_chassis.processes import failpoints

T = TypeVar("T")

READ_ONLY_SESSION = "session is read-only"
"""Part of libpq's message where it was told to find a server that takes writes, and found another (`engine.primary_only`)."""
_ATTEMPTS = 4
_TOUCHED = "keyreeve touched topics"
_SQLITE_ERROR = 1
"""SQLITE_ERROR: the statement is wrong. Every other code of an OperationalError is the database's or the machine's."""


def register_failpoints(service: str) -> None:
    """Register the two failpoints of the service's commits."""
    failpoints.register(f"{service}.commit.before", "A transaction is complete and not yet committed.")
    failpoints.register(f"{service}.commit.after", "A transaction is committed and its caller does not know yet.")


class ServerTakesNoWrites(StoreUnavailable):
    """The server that was reached is a standby, or set to be read-only."""


@contextmanager
def transaction(connection: Connection, service: str) -> Iterator[None]:
    """Commit what the block writes, or nothing: every durable step passes through here.

    When the commit itself fails its outcome is unknown: that is `StoreUnavailable` too, and a caller that must know
    asks the database.
    """
    attempt = connection.begin()
    try:
        yield
        failpoints.hit(f"{service}.commit.before")
    except BaseException as failure:
        if _takes_no_writes(_cause(failure)):
            connection.invalidate()  # the next one is made to the server that is the primary then
        else:
            _roll_back(connection)
        raise
    try:
        attempt.commit()
        failpoints.hit(f"{service}.commit.after")
    except Exception as failure:
        _roll_back(connection)
        raise StoreUnavailable("the database did not confirm the commit; it may have happened") from failure


def _roll_back(connection: Connection) -> None:
    """Roll back, or close the socket of a broken connection."""
    try:
        connection.rollback()
    except DBAPIError:
        connection.invalidate()


@contextmanager
def store_errors() -> Iterator[None]:
    """Turn errors of the database, but not errors in its use, into `StoreUnavailable`."""
    try:
        yield
    except (DBAPIError, psycopg.Error, sqlite3.Error) as error:
        cause = _cause(error)
        if _takes_no_writes(cause):
            raise ServerTakesNoWrites("the database server is a standby or read-only, and takes no writes") from error
        if isinstance(error, InterfaceError) or _is_the_databases(cause):
            raise StoreUnavailable("the database cannot be used now; nothing is known to have happened") from error
        raise
    except PoolTimeout as error:
        raise StoreUnavailable("no database connection became free within 5 seconds") from error
    except failpoints.FailpointRaised as error:
        raise StoreUnavailable("the database failed, as a failpoint was told to") from error


def _cause(error: BaseException) -> BaseException | None:
    return error.orig if isinstance(error, DBAPIError) else error


def _takes_no_writes(cause: BaseException | None) -> bool:
    """Whether a write, or a connection for writes, was refused by a server that is a standby or set to be read-only."""
    if isinstance(cause, psycopg.errors.ReadOnlySqlTransaction):
        return True
    return isinstance(cause, psycopg.OperationalError) and READ_ONLY_SESSION in str(cause)


def _is_the_databases(error: BaseException | None) -> bool:
    match error:
        case psycopg.OperationalError() | psycopg.InterfaceError():
            return True
        case sqlite3.OperationalError() | sqlite3.InternalError():
            return getattr(error, "sqlite_errorcode", 0) & 0xFF != _SQLITE_ERROR
        case sqlite3.DatabaseError():  # a damaged file is a bare DatabaseError
            return type(error) is sqlite3.DatabaseError
    return False


def touch(connection: Connection, topic: str) -> None:
    """Have the followers of a topic read again once the transaction has been committed (`keyreeve_chassis.changes`)."""
    connection.info.setdefault(_TOUCHED, set()).add(topic)


def channel_of(service: str) -> str:
    """The channel of PostgreSQL on which a service's processes tell each other which topics a transaction touched."""
    return f"keyreeve_{service}"


def notify(connection: Connection, channel: str, payload: str) -> None:
    """Notify those who listen to a channel of PostgreSQL, when the transaction is committed."""
    connection.exec_driver_sql("SELECT pg_notify(%s, %s)", (channel, payload))


def may_be_repeated(error: BaseException) -> bool:
    """Whether PostgreSQL aborted the transaction in favor of another, so that a retry may succeed."""
    return isinstance(_cause(error), psycopg.errors.SerializationFailure | psycopg.errors.DeadlockDetected)


class Database:
    """One engine and its threads. A SQLite writer has one thread."""

    def __init__(
        self,
        engine: Engine,
        *,
        service: str,
        threads: int,
        announce: Callable[[Set[str]], None] = lambda _: None,
        pooled: bool = False,
    ) -> None:
        """`announce` is told, in the thread that commits, which topics a transaction has touched.

        `pooled`: see `engine.postgresql`.
        """
        self.engine = engine
        self._announce = announce
        self._pooled = pooled
        self.service = service
        self.is_sqlite = engine.dialect.name == "sqlite"
        register_failpoints(service)
        self.commits = 0
        """How many transactions were committed here."""
        event.listen(engine, "commit", self._count)
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix=f"{service}-database")

    async def write(self, work: Callable[[Connection], T]) -> T:
        """Run `work` in a transaction and commit it; retried when PostgreSQL aborts it."""
        return await self.run(lambda: self.write_here(work))

    async def read(self, work: Callable[[Connection], T], *, one_statement: bool = False) -> T:
        """Run `work` on a read-only snapshot; see `read_here`."""
        return await self.run(lambda: self.read_here(work, one_statement=one_statement))

    async def run(self, work: Callable[[], T]) -> T:
        """Run `work` in one of the threads. Cancelling the caller does not interrupt it."""
        return await asyncio.wrap_future(self.submit(work))

    def submit(self, work: Callable[[], T]) -> "Future[T]":
        """Queue `work` for the threads."""
        try:
            return self._threads.submit(work)
        except RuntimeError:
            raise StoreUnavailable("the database has been closed") from None

    def write_here(self, work: Callable[[Connection], T]) -> T:
        """`write` in the calling thread."""
        with store_errors():
            for attempt in range(1, _ATTEMPTS + 1):
                try:
                    return self._write_once(work)
                except (DBAPIError, psycopg.Error) as error:
                    if attempt == _ATTEMPTS or not may_be_repeated(error):
                        raise
        raise AssertionError("unreachable")

    def _write_once(self, work: Callable[[Connection], T]) -> T:
        touched: set[str] = set()
        try:
            with self.engine.connect() as connection, transaction(connection, self.service):
                connection.info[_TOUCHED] = touched
                result = work(connection)
                if touched and not self.is_sqlite:
                    notify(connection, channel_of(self.service), ",".join(sorted(touched)))
                return result
        finally:
            if touched:  # also where it is not known whether the commit happened
                self._announce(touched)

    def read_here(self, work: Callable[[Connection], T], *, one_statement: bool = False) -> T:
        """`read` in the calling thread.

        Work that executes `one_statement` needs no transaction on PostgreSQL, which saves two of four round trips, unless a
        pooler is in front. The database then does not refuse writes; the caller must not make any.
        """
        one_statement = one_statement and not self._pooled
        with store_errors(), self.engine.connect() as connection:
            if not self.is_sqlite:
                level = "AUTOCOMMIT" if one_statement else "REPEATABLE READ"
                connection.execution_options(isolation_level=level, postgresql_readonly=not one_statement)
            with connection.begin():
                return work(connection)

    def _count(self, _connection: Connection) -> None:
        self.commits += 1

    def close(self) -> None:
        """Finish running work, refuse the rest, and close the connections."""
        self._threads.shutdown(wait=True, cancel_futures=True)
        self.engine.dispose()
