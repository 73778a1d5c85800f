"""`launch_settings.ports.LaunchSettingRecords` on both databases."""

from collections.abc import Mapping

from sqlalchemy import ColumnElement, Connection, and_, bindparam, or_, select

from keyreeve_chassis.trust_tables.sql import SqlTrust
from keyreeve_credentials.launch_settings.ports import ARRAY
from keyreeve_credentials.launch_settings.tables import launch_settings

_READ = select(launch_settings).where(
    launch_settings.c.array_id == bindparam("array"),
    or_(launch_settings.c.server == bindparam("whole"), launch_settings.c.server == bindparam("server")),
)
"""Built once: a launch waits for it."""


class SqlLaunchSettings:
    """The records in one transaction. What another has changed raises `TrustTableAltered`."""

    def __init__(self, connection: Connection, trust: SqlTrust) -> None:
        self._connection = connection
        self._rows = trust.rows(launch_settings)

    def read(self, array_id: str, server: str) -> tuple[Mapping[str, str], Mapping[str, str]]:
        """See `LaunchSettingRecords.read`."""
        values = {"array": array_id, "whole": ARRAY, "server": server}
        found: dict[str, dict[str, str]] = {ARRAY: {}, server: {}}
        for row in self._connection.execute(_READ, values).mappings().all():
            self._rows.refuse_unless_true(row)
            found[row["server"]][row["name"]] = row["value"]
        return found[ARRAY], found[server] if server != ARRAY else {}

    def put(self, array_id: str, server: str, name: str, text: str) -> None:
        """See `LaunchSettingRecords.put`."""
        if not self._rows.update(_at(array_id, server, name), {"value": text}):
            self._rows.insert({"array_id": array_id, "server": server, "name": name, "value": text})

    def remove(self, array_id: str, server: str, name: str) -> None:
        """See `LaunchSettingRecords.remove`."""
        self._rows.delete(_at(array_id, server, name))


def _at(array_id: str, server: str, name: str) -> ColumnElement[bool]:
    c = launch_settings.c
    return and_(c.array_id == array_id, c.server == server, c.name == name)
