"""`configuration.ports.SettingRecords` on both databases."""

from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection, select
from sqlalchemy.dialects import postgresql, sqlite

from keyreeve_chassis.database.transactions import touch
from keyreeve_membership.roll.ports import MEMBERS
from keyreeve_membership.store.tables import settings


class SqlSettings:
    """The settings in one transaction; `write` executes a statement, or raises in a read transaction."""

    def __init__(self, connection: Connection, write: Callable[[Any], Any]) -> None:
        """Take the transaction's connection."""
        self._connection = connection
        self._write = write

    def of(self, owner: str) -> dict[str, str]:
        """The settings that were changed, by name."""
        query = select(settings.c.name, settings.c.value).where(settings.c.owner == owner)
        return {row.name: row.value for row in self._connection.execute(query)}

    def put(self, owner: str, name: str, value: str) -> None:
        """Store a setting."""
        dialect = sqlite if self._connection.dialect.name == "sqlite" else postgresql
        statement = dialect.insert(settings).values(owner=owner, name=name, value=value)
        self._write(
            statement.on_conflict_do_update(
                index_elements=[settings.c.owner, settings.c.name], set_={"value": statement.excluded.value}
            )
        )
        touch(self._connection, MEMBERS)
