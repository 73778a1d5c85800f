"""What an audit log needs of its service's database, and the chains of writing processes."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Select, Table, text, update

from keyreeve_chassis.audit.chains import ChainWriter, Cursor
from keyreeve_chassis.audit.tables import AuditTables


@dataclass(frozen=True)
class AuditSchema:
    """The tables of one service's audit log, and two queries on the service's other tables."""

    tables: AuditTables
    keys: Table
    """Sealed keys (`keyreeve_chassis.keys.tables`); the log's key is one of them."""
    restore_generation_query: str
    """SQL for the number of times the database was restored; no row before the first start is complete."""
    living_writers: Select[Any] | None
    """Ids of the processes that may be writing. None: only the one that asks, as on SQLite."""

    def chain(self, writer: str, now: Callable[[], int], *, postgresql: bool) -> ChainWriter:
        """A chain of one process. `now`, in seconds since 1970, is the clock of SQLite; PostgreSQL has its own."""
        return ChainWriter(writer, postgresql=postgresql, restore_generation=self._restore_generation, now=now)

    def restore_generation(self, connection: Connection) -> int:
        """How often the database has been restored; 0 before the first start is complete."""
        return connection.scalar(text(self.restore_generation_query)) or 0

    def abandon_orphans(self, connection: Connection) -> int:
        """End the chains of processes that are gone. On SQLite these are all open chains at start."""
        chains = self.tables.chains.c
        gone = chains.state == "open"
        if connection.dialect.name == "postgresql" and self.living_writers is not None:
            gone &= chains.writer.not_in(self.living_writers)
        return connection.execute(update(self.tables.chains).where(gone).values(state="abandoned")).rowcount

    def _restore_generation(self, cursor: Cursor) -> int:
        cursor.execute(self.restore_generation_query)
        row = cursor.fetchone()
        return 0 if row is None else int(row[0])


def cursor_of(connection: Connection) -> Cursor:
    """The driver's own cursor, in the connection's transaction."""
    cursor: Cursor = connection.connection.cursor()
    return cursor
