"""The living processes of a service on PostgreSQL: a lease of each by the database's clock.

On SQLite there is one writing process, identified by the file's lock.
"""

from sqlalchemy import BigInteger, Column, Connection, MetaData, Table, Text, delete, insert, select, text, update

LEASE_SECONDS = 20
"""How long a process counts as alive after it was last heard of."""


class WriterExpired(Exception):
    """The database counts this process as dead; it ends, and its parent starts another."""


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
