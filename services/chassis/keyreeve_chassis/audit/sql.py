"""The CA's audit chains in its database, and the log over them as its services and its leader see it."""

import time
from collections.abc import Callable

from sqlalchemy import Connection, select, update

from keyreeve_ca.store.audit_tables import audit
from keyreeve_ca.store.tables import control_plane, workers
from keyreeve_chassis.audit.chains import ChainWriter, Cursor


def sqlite_chain(writer: str, now: Callable[[], int]) -> ChainWriter:
    """A chain of the one process that writes; `now` in seconds since 1970."""
    return ChainWriter(writer, postgresql=False, restore_generation=_restore_generation, now=lambda: now() * 1000)


def postgresql_chain(writer: str) -> ChainWriter:
    """A chain of one of the processes that write; the database has the clock."""
    return ChainWriter(
        writer, postgresql=True, restore_generation=_restore_generation, now=lambda: time.time_ns() // 1_000_000
    )


def cursor_of(connection: Connection) -> Cursor:
    """The driver's own cursor, in the connection's transaction."""
    cursor: Cursor = connection.connection.cursor()
    return cursor


def restore_generation(connection: Connection) -> int:
    """How often the database has been restored; 0 before there is a control plane."""
    return connection.scalar(select(control_plane.c.restore_generation)) or 0


def abandon_orphans(connection: Connection) -> int:
    """End the chains of processes that are gone: on SQLite all but one's own, which is why the coordinator begins with this."""
    chains = audit.chains.c
    gone = chains.state == "open"
    if connection.dialect.name == "postgresql":
        gone &= chains.writer.not_in(select(workers.c.worker_id))
    return connection.execute(update(audit.chains).where(gone).values(state="abandoned")).rowcount


def _restore_generation(cursor: Cursor) -> int:
    cursor.execute("SELECT restore_generation FROM control_plane")
    row = cursor.fetchone()
    return 0 if row is None else int(row[0])
