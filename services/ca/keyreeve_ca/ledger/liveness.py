"""PostgreSQL: void the serial blocks of workers that are gone.

On SQLite the coordinator knows by the worker's connection instead.
"""

from sqlalchemy import Connection, not_, select

from keyreeve_ca.ledger import blocks
from keyreeve_ca.store.tables import serial_blocks, workers
from keyreeve_chassis.database.writers import deregister_writer, remove_expired_writers


def void_orphans(connection: Connection) -> int:
    """Void the open blocks of workers without a current lease; return how many."""
    remove_expired_writers(connection, workers)
    return blocks.void(connection, not_(serial_blocks.c.worker_id.in_(select(workers.c.worker_id))))


def deregister(connection: Connection, worker_id: str) -> int:
    """End a worker's lease and void its blocks; return how many."""
    deregister_writer(connection, workers, worker_id)
    return blocks.void_of_worker(connection, worker_id)
