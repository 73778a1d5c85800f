"""Which workers are alive, on PostgreSQL: a lease by the database's clock, and what happens to the blocks of the dead.

On SQLite the coordinator knows by the worker's connection instead.
"""

from sqlalchemy import Connection, delete, insert, not_, select, text, update

from keyreeve_ca.ledger import blocks
from keyreeve_ca.store.tables import serial_blocks, workers

LEASE_SECONDS = 20
"""How long a process counts as alive after it was last heard of."""


class LeaseLost(Exception):
    """This process has been given up for dead; it ends, and its parent starts another."""


def database_seconds(connection: Connection) -> int:
    """Seconds since 1970 by the database's clock, the only one that replicas share."""
    seconds: int = connection.execute(text("SELECT floor(extract(epoch FROM clock_timestamp()))::bigint")).scalar_one()
    return seconds


def register(connection: Connection, worker_id: str, lease_seconds: int) -> None:
    """Begin a worker's lease of life; a worker id is used once."""
    now = database_seconds(connection)
    connection.execute(insert(workers).values(worker_id=worker_id, registered_at=now, expires_at=now + lease_seconds))


def extend(connection: Connection, worker_id: str, lease_seconds: int) -> bool:
    """Extend it; False when it has expired: the worker's blocks are void or will be, and it must register anew."""
    now = database_seconds(connection)
    return (
        connection.execute(
            update(workers)
            .where(workers.c.worker_id == worker_id, workers.c.expires_at > now)
            .values(expires_at=now + lease_seconds)
        ).rowcount
        == 1
    )


def is_alive(connection: Connection, worker_id: str, now: int) -> bool:
    """Whether its lease runs; holds off `void_orphans` for the worker until the transaction ends."""
    found = connection.execute(
        select(workers.c.worker_id)
        .where(workers.c.worker_id == worker_id, workers.c.expires_at > now)
        .with_for_update(read=True)
    )
    return found.first() is not None


def void_orphans(connection: Connection) -> int:
    """Void the open blocks of workers whose lease has expired or who have none; returns how many blocks."""
    connection.execute(delete(workers).where(workers.c.expires_at <= database_seconds(connection)))
    return blocks.void(connection, not_(serial_blocks.c.worker_id.in_(select(workers.c.worker_id))))


def deregister(connection: Connection, worker_id: str) -> int:
    """End a worker's lease and void its blocks; returns how many."""
    connection.execute(delete(workers).where(workers.c.worker_id == worker_id))
    return blocks.void_of_worker(connection, worker_id)
