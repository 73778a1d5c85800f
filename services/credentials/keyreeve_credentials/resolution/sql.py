"""`resolution.ports.LaunchRecords` on both databases."""

from collections.abc import Sequence

from sqlalchemy import Connection, bindparam, or_, select

from keyreeve_credentials.entries.names import LOGIN, ObjectName, Space
from keyreeve_credentials.entries.ports import Entry
from keyreeve_credentials.entries.sql import read_entry
from keyreeve_credentials.entries.tables import entries

_OF_LAUNCH = (
    select(entries)
    .where(
        entries.c.array_id == bindparam("array"),
        entries.c.owner_key == bindparam("owner"),
        or_(
            entries.c.resource_key == bindparam("login"),
            entries.c.resource_key == bindparam("server"),
            entries.c.resource_key.startswith(Space.DOMAIN.value, autoescape=True),
        ),
    )
    # In this order the login password and the server come before the domains, however many these are.
    .order_by(entries.c.resource_key)
    .limit(bindparam("most"))
)
"""Built once: a launch waits for it."""


class SqlLaunches:
    """The records in one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def entries_of(self, array_id: str, owner: ObjectName, server: ObjectName, limit: int) -> Sequence[Entry]:
        """See `LaunchRecords.entries_of`."""
        values = {"array": array_id, "owner": owner.key, "login": LOGIN.key, "server": server.key, "most": limit}
        return [read_entry(row) for row in self._connection.execute(_OF_LAUNCH, values)]
