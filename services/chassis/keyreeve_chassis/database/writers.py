"""The living processes of a service on PostgreSQL: a lease of each by the database's clock.

On SQLite there is one writing process, identified by the file's lock.
"""

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from sqlalchemy import BigInteger, Column, Connection, MetaData, Table, Text, delete, insert, select, text, update

from keyreeve.errors import StoreUnavailable
from keyreeve_chassis.database.transactions import ServerTakesNoWrites

LEASE_SECONDS = 20
"""How long a process counts as alive after it was last heard of."""
STANDBY_SECONDS = 60
"""How long a process looks for the primary; a managed failover takes less."""


class WriterExpired(Exception):
    """The database counts this process as dead; it ends, and its parent starts another."""


class PrimaryNotFound(Exception):
    """Every server that this process reached takes no writes; it ends, and is started again where another may be found."""


@dataclass
class LeaseKeeping:
    """Extends a process's lease, and says when the process must end instead."""

    process: str
    extend: Callable[[], Awaitable[bool]]
    """False when the lease has expired."""
    clock: Callable[[], float] = time.monotonic
    _standby_since: float | None = field(default=None, init=False)

    async def __call__(self) -> None:
        """Extend it once. Raises `WriterExpired`, `PrimaryNotFound`; `StoreUnavailable` for an attempt that may be repeated."""
        try:
            alive = await self.extend()
        except ServerTakesNoWrites:
            now = self.clock()
            if self._standby_since is None:
                self._standby_since = now
            if now - self._standby_since >= STANDBY_SECONDS:
                raise PrimaryNotFound(
                    f"{self.process} has reached only servers that take no writes for {STANDBY_SECONDS} s: does database.url "
                    "lead to the primary?"
                ) from None
            raise
        except StoreUnavailable:
            # No standby answered: nothing speaks against the way by which this process looks for the database.
            self._standby_since = None
            raise
        self._standby_since = None
        if not alive:
            raise WriterExpired(f"{self.process} was not heard of for {LEASE_SECONDS} s; what it had leased is void")


def writer_table(metadata: MetaData) -> Table:
    """Define the table, for a service's own metadata: a process is alive until `expires_at` by the database's clock."""
    return Table(
        "workers",
        metadata,
        Column("worker_id", Text, primary_key=True),
        Column("registered_at", BigInteger, nullable=False),
        Column("expires_at", BigInteger, nullable=False),
    )


def database_seconds(connection: Connection) -> int:
    """Seconds since 1970 by the database's clock, the only one that replicas share."""
    seconds: int = connection.execute(text("SELECT floor(extract(epoch FROM clock_timestamp()))::bigint")).scalar_one()
    return seconds


def register_writer(connection: Connection, writers: Table, writer_id: str, seconds: int = LEASE_SECONDS) -> None:
    """Register a process's lease; an id is used once."""
    now = database_seconds(connection)
    connection.execute(insert(writers).values(worker_id=writer_id, registered_at=now, expires_at=now + seconds))


def extend_writer(connection: Connection, writers: Table, writer_id: str, seconds: int = LEASE_SECONDS) -> bool:
    """Extend a lease; False when it has expired: the process must end."""
    now = database_seconds(connection)
    alive = (writers.c.worker_id == writer_id) & (writers.c.expires_at > now)
    return connection.execute(update(writers).where(alive).values(expires_at=now + seconds)).rowcount == 1


def is_writer_alive(connection: Connection, writers: Table, writer_id: str, now: int) -> bool:
    """Whether the lease has not expired; keeps others from removing it until the transaction ends."""
    alive = (writers.c.worker_id == writer_id) & (writers.c.expires_at > now)
    return connection.execute(select(writers.c.worker_id).where(alive).with_for_update(read=True)).first() is not None


def remove_expired_writers(connection: Connection, writers: Table) -> None:
    """Delete expired leases."""
    connection.execute(delete(writers).where(writers.c.expires_at <= database_seconds(connection)))


def deregister_writer(connection: Connection, writers: Table, writer_id: str) -> None:
    """End a process's lease."""
    connection.execute(delete(writers).where(writers.c.worker_id == writer_id))
