"""`objects.ports.ObjectRecords` on both databases."""

from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import Connection, Row, delete, select, update
from sqlalchemy.dialects import postgresql, sqlite

from keyreeve_credentials.entries.names import ObjectName
from keyreeve_credentials.objects.ports import ApplicationKind, ObjectKind, PasswordCacheUsage, StoredObject
from keyreeve_credentials.objects.tables import objects


class SqlObjects:
    """The records in one transaction; `write` executes a statement, or raises in a read transaction."""

    def __init__(self, connection: Connection, write: Callable[[Any], Any]) -> None:
        self._connection = connection
        self._write = write

    def add(self, made: StoredObject) -> bool:
        """See `ObjectRecords.add`."""
        dialect = sqlite if self._connection.dialect.name == "sqlite" else postgresql
        added = dialect.insert(objects).values(**_values(made)).on_conflict_do_nothing()
        return self._write(added.returning(objects.c.name_key)).first() is not None

    def find(self, array_id: str, names: Sequence[ObjectName]) -> Sequence[StoredObject]:
        """See `ObjectRecords.find`."""
        keys = {name.key for name in names}
        query = select(objects).where(objects.c.array_id == array_id, objects.c.name_key.in_(keys))
        return [_object(row) for row in self._connection.execute(query)]

    def replace(self, changed: StoredObject, *, version: int) -> bool:
        """See `ObjectRecords.replace`."""
        c = objects.c
        here = (c.array_id == changed.array_id, c.name_key == changed.name.key, c.version == version)
        return bool(self._write(update(objects).where(*here).values(**_values(changed))).rowcount)

    def delete(self, array_id: str, name: ObjectName) -> bool:
        """See `ObjectRecords.delete`."""
        here = (objects.c.array_id == array_id, objects.c.name_key == name.key)
        return bool(self._write(delete(objects).where(*here)).rowcount)

    def page(self, array_id: str, kind: ObjectKind | None, *, after: str, limit: int) -> Sequence[StoredObject]:
        """See `ObjectRecords.page`."""
        query = select(objects).where(objects.c.array_id == array_id, objects.c.name_key > after)
        if kind is not None:
            query = query.where(objects.c.kind == kind.value)
        rows = self._connection.execute(query.order_by(objects.c.name_key).limit(limit))
        return [_object(row) for row in rows]


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


def _object(row: Row[Any]) -> StoredObject:
    return StoredObject(
        array_id=row.array_id,
        name=ObjectName(row.name),
        kind=ObjectKind(row.kind),
        domain=row.domain,
        password_cache_usage=PasswordCacheUsage(row.password_cache_usage),
        application_kind=ApplicationKind(row.application_kind) if row.application_kind else None,
        enhanced_network_security=row.enhanced_network_security,
        version=row.version,
        created_at=row.created_at,
        updated_at=row.updated_at,
    )
