"""`resolution.ports.LaunchRecords` on both databases."""

from collections.abc import Sequence

from sqlalchemy import Connection, or_, select

from keyreeve_credentials.entries.names import LOGIN, ObjectName, Space
from keyreeve_credentials.entries.ports import Entry
from keyreeve_credentials.entries.sql import read_entry
from keyreeve_credentials.entries.tables import entries


class SqlLaunches:
    """The records in one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def entries_of(self, array_id: str, owner: ObjectName, server: ObjectName, limit: int) -> Sequence[Entry]:
        """See `LaunchRecords.entries_of`."""
        c = entries.c
        wanted = or_(
            c.resource_key.in_({server.key, LOGIN.key}), c.resource_key.startswith(Space.DOMAIN.value, autoescape=True)
        )
        query = select(entries).where(c.array_id == array_id, c.owner_key == owner.key, wanted)
        # The shortest first: the login password and the server are among them, however many domains there are.
        rows = self._connection.execute(query.order_by(c.resource_key).limit(limit))
        return [read_entry(row) for row in rows]
