"""`resolution.ports.LaunchRecords` on both databases."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, delete, or_, select
from sqlalchemy.dialects import postgresql, sqlite

from keyreeve_credentials.entries.names import LOGIN, ObjectName, Space
from keyreeve_credentials.entries.ports import Entry
from keyreeve_credentials.entries.sql import read_entry
from keyreeve_credentials.entries.tables import entries
from keyreeve_credentials.resolution.ports import EntryUse
from keyreeve_credentials.resolution.tables import entry_uses


class SqlLaunches:
    """The records in one transaction; `write` executes a statement, or raises in a read transaction."""

    def __init__(self, connection: Connection, write: Callable[[Any], Any]) -> None:
        self._connection = connection
        self._write = write

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

    def uses_of(self, entry_uids: Sequence[str]) -> Mapping[str, EntryUse]:
        """See `LaunchRecords.uses_of`."""
        c = entry_uses.c
        query = select(c.entry_uid, c.login_domain, c.used_at).where(c.entry_uid.in_(entry_uids))
        return {uid: EntryUse(domain, used_at) for uid, domain, used_at in self._connection.execute(query)}

    def put_use(self, array_id: str, entry_uid: str, use: EntryUse) -> None:
        """See `LaunchRecords.put_use`."""
        dialect = sqlite if self._connection.dialect.name == "sqlite" else postgresql
        values = {"login_domain": use.login_domain, "used_at": use.used_at}
        made = dialect.insert(entry_uses).values(entry_uid=entry_uid, array_id=array_id, **values)
        self._write(made.on_conflict_do_update(index_elements=["entry_uid"], set_=values))

    def remove_use(self, entry_uid: str) -> None:
        """See `LaunchRecords.remove_use`."""
        self._write(delete(entry_uses).where(entry_uses.c.entry_uid == entry_uid))
