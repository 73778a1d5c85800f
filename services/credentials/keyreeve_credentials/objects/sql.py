"""`objects.ports.ObjectRecords` on both databases."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, RowMapping, Select, and_, bindparam, select

from keyreeve_chassis.trust_tables.sql import SqlTrust
from keyreeve_credentials.entries.names import ObjectName
from keyreeve_credentials.objects.ports import ApplicationKind, ObjectKind, PasswordCacheUsage, StoredObject
from keyreeve_credentials.objects.tables import objects

_NAMES = ("one", "other", "third")
_FIND = select(objects).where(
    objects.c.array_id == bindparam("array"), objects.c.name_key.in_([bindparam(name) for name in _NAMES])
)
"""Built once, and for the three names of a launch, which waits for it."""


class SqlObjects:
    """The records in one transaction. What another has changed raises `TrustTableAltered`."""

    def __init__(self, connection: Connection, trust: SqlTrust) -> None:
        self._connection = connection
        self._rows = trust.rows(objects)

    def add(self, made: StoredObject) -> bool:
        """See `ObjectRecords.add`."""
        if self._rows.one(_at(made.array_id, made.name)) is not None:
            return False
        self._rows.insert(_values(made))  # a write transaction is alone: none was faster
        return True

    def find(self, array_id: str, names: Sequence[ObjectName]) -> Sequence[StoredObject]:
        """See `ObjectRecords.find`."""
        keys = sorted({name.key for name in names})
        found: list[StoredObject] = []
        for first in range(0, len(keys), len(_NAMES)):
            some = keys[first : first + len(_NAMES)]
            some += some[:1] * (len(_NAMES) - len(some))
            found += self._read(_FIND, {"array": array_id, **dict(zip(_NAMES, some, strict=True))})
        return found

    def replace(self, changed: StoredObject, *, version: int) -> bool:
        """See `ObjectRecords.replace`."""
        here = and_(_at(changed.array_id, changed.name), objects.c.version == version)
        return bool(self._rows.update(here, _values(changed)))

    def delete(self, array_id: str, name: ObjectName) -> bool:
        """See `ObjectRecords.delete`."""
        return bool(self._rows.delete(_at(array_id, name)))

    def page(self, array_id: str, kind: ObjectKind | None, *, after: str, limit: int) -> Sequence[StoredObject]:
        """See `ObjectRecords.page`."""
        query = select(objects).where(objects.c.array_id == array_id, objects.c.name_key > after)
        if kind is not None:
            query = query.where(objects.c.kind == kind.value)
        return self._read(query.order_by(objects.c.name_key).limit(limit))

    def _read(self, query: Select[Any], values: Mapping[str, Any] | None = None) -> list[StoredObject]:
        rows = self._connection.execute(query, values).mappings().all()
        for row in rows:
            self._rows.refuse_unless_true(row)
        return [_object(row) for row in rows]


def _at(array_id: str, name: ObjectName) -> ColumnElement[bool]:
    return and_(objects.c.array_id == array_id, objects.c.name_key == name.key)


def _values(stored: StoredObject) -> dict[str, Any]:
    return {
        "array_id": stored.array_id,
        "name_key": stored.name.key,
        "name": stored.name.text,
        "kind": stored.kind.value,
        "domain": stored.domain,
        "password_cache_usage": stored.password_cache_usage.value,
        "application_kind": stored.application_kind.value if stored.application_kind else "",
        "enhanced_network_security": stored.enhanced_network_security,
        "version": stored.version,
        "created_at": stored.created_at,
        "updated_at": stored.updated_at,
    }


def _object(row: RowMapping) -> StoredObject:
    return StoredObject(
        array_id=row["array_id"],
        name=ObjectName(row["name"]),
        kind=ObjectKind(row["kind"]),
        domain=row["domain"],
        password_cache_usage=PasswordCacheUsage(row["password_cache_usage"]),
        application_kind=ApplicationKind(row["application_kind"]) if row["application_kind"] else None,
        enhanced_network_security=row["enhanced_network_security"],
        version=row["version"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )
