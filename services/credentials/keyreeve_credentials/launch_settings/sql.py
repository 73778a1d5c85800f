"""`launch_settings.ports.LaunchSettingRecords` on both databases."""

from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import Connection, delete, select
from sqlalchemy.dialects import postgresql, sqlite

from keyreeve_credentials.launch_settings.ports import ARRAY
from keyreeve_credentials.launch_settings.tables import launch_settings


class SqlLaunchSettings:
    """The records in one transaction; `write` executes a statement, or raises in a read transaction."""

    def __init__(self, connection: Connection, write: Callable[[Any], Any]) -> None:
        self._connection = connection
        self._write = write

    def read(self, array_id: str, server: str) -> tuple[Mapping[str, str], Mapping[str, str]]:
        """See `LaunchSettingRecords.read`."""
        c = launch_settings.c
        query = select(c.server, c.name, c.value).where(c.array_id == array_id, c.server.in_({ARRAY, server}))
        found: dict[str, dict[str, str]] = {ARRAY: {}, server: {}}
        for where, name, value in self._connection.execute(query):
            found[where][name] = value
        return found[ARRAY], found[server] if server != ARRAY else {}

    def put(self, array_id: str, server: str, name: str, text: str) -> None:
        """See `LaunchSettingRecords.put`."""
        dialect = sqlite if self._connection.dialect.name == "sqlite" else postgresql
        made = dialect.insert(launch_settings).values(array_id=array_id, server=server, name=name, value=text)
        self._write(made.on_conflict_do_update(index_elements=["array_id", "server", "name"], set_={"value": text}))

    def remove(self, array_id: str, server: str, name: str) -> None:
        """See `LaunchSettingRecords.remove`."""
        c = launch_settings.c
        self._write(delete(launch_settings).where(c.array_id == array_id, c.server == server, c.name == name))
