"""`entries.ports.EntryRecords` on both databases."""

from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, and_, delete, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite

from keyreeve_credentials.entries.names import ObjectName
from keyreeve_credentials.entries.ports import Entry, EntryFilter, EntryKind, EntrySource
from keyreeve_credentials.entries.tables import entries
from keyreeve_credentials.keys.envelope import Sealed


class SqlEntries:
    """The records in one transaction; `write` executes a statement, or raises in a read transaction."""

    def __init__(self, connection: Connection, write: Callable[[Any], Any]) -> None:
        self._connection = connection
        self._write = write

    def add(self, entry: Entry) -> bool:
        """See `EntryRecords.add`."""
        dialect = sqlite if self._connection.dialect.name == "sqlite" else postgresql
        done = self._write(dialect.insert(entries).values(**_values(entry)).on_conflict_do_nothing())
        return bool(done.rowcount)

    def get(self, array_id: str, entry_uid: str) -> Entry | None:
        """See `EntryRecords.get`."""
        return self._one(and_(entries.c.entry_uid == entry_uid, entries.c.array_id == array_id))

    def find(self, array_id: str, owner: ObjectName, resource: ObjectName) -> Entry | None:
        """See `EntryRecords.find`."""
        c = entries.c
        return self._one(and_(c.array_id == array_id, c.owner_key == owner.key, c.resource_key == resource.key))

    def replace(self, entry: Entry, *, encryption: int) -> bool:
        """See `EntryRecords.replace`."""
        c = entries.c
        done = self._write(
            update(entries)
            .where(c.entry_uid == entry.entry_uid, c.array_id == entry.array_id, c.encryption == encryption)
            .values(**_values(entry))
        )
        return bool(done.rowcount)

    def delete(self, array_id: str, entry_uid: str) -> bool:
        """See `EntryRecords.delete`."""
        done = self._write(delete(entries).where(entries.c.entry_uid == entry_uid, entries.c.array_id == array_id))
        return bool(done.rowcount)

    def page(self, array_id: str, wanted: EntryFilter, *, after: tuple[str, str] | None, limit: int) -> Sequence[Entry]:
        """See `EntryRecords.page`."""
        c = entries.c
        conditions: list[ColumnElement[bool]] = [c.array_id == array_id]
        for column, pattern in ((c.owner_key, wanted.owner), (c.resource_key, wanted.resource)):
            if pattern:
                conditions.append(_matches(column, pattern))
        if wanted.user_name:
            conditions.append(_matches(c.user_name_key, wanted.user_name))
        if wanted.login_only:
            conditions.append(c.resource_key == "")
        if after is not None:
            owner, resource = after
            conditions.append(or_(c.owner_key > owner, and_(c.owner_key == owner, c.resource_key > resource)))
            conditions.append(c.owner_key >= owner)  # the planner walks the index from here
        query = select(entries).where(*conditions).order_by(c.owner_key, c.resource_key).limit(limit)
        return [read_entry(row) for row in self._connection.execute(query)]

    def chosen(
        self, array_id: str, owner: ObjectName | None, resource: ObjectName | None, *, limit: int
    ) -> Sequence[Entry]:
        """See `EntryRecords.chosen`."""
        conditions = [entries.c.array_id == array_id]
        if owner is not None:
            conditions.append(entries.c.owner_key == owner.key)
        if resource is not None:
            conditions.append(entries.c.resource_key == resource.key)
        return [read_entry(row) for row in self._connection.execute(select(entries).where(*conditions).limit(limit))]

    def _one(self, condition: ColumnElement[bool]) -> Entry | None:
        row = self._connection.execute(select(entries).where(condition)).one_or_none()
        return None if row is None else read_entry(row)


def _matches(column: ColumnElement[str], pattern: str) -> ColumnElement[bool]:
    """Compare with a pattern in which `*` stands for any characters."""
    if "*" not in pattern:
        return column == pattern
    escaped = pattern.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_").replace("*", "%")
    return column.like(escaped, escape="\\")


def _values(entry: Entry) -> dict[str, Any]:
    return {
        "entry_uid": entry.entry_uid,
        "array_id": entry.array_id,
        "owner": entry.owner.text,
        "owner_key": entry.owner.key,
        "resource": entry.resource.text,
        "resource_key": entry.resource.key,
        "user_name": entry.user_name,
        "user_name_key": entry.user_name.casefold(),
        "kind": entry.kind.value,
        "source": entry.source.value,
        "version": entry.version,
        "encryption": entry.encryption,
        "kek_id": entry.sealed.kek_id,
        "wrapped_key": entry.sealed.wrapped_key,
        "sealed_user_name": entry.sealed.fields["user_name"],
        "sealed_secret": entry.sealed.fields[entry.kind.value],
        "created_at": entry.created_at,
        "updated_at": entry.updated_at,
    }


def read_entry(row: Row[Any]) -> Entry:
    """Make an entry of its row."""
    kind = EntryKind(row.kind)
    return Entry(
        array_id=row.array_id,
        entry_uid=row.entry_uid,
        owner=ObjectName(row.owner),
        resource=ObjectName(row.resource),
        user_name=row.user_name,
        kind=kind,
        source=EntrySource(row.source),
        version=row.version,
        encryption=row.encryption,
        created_at=row.created_at,
        updated_at=row.updated_at,
        sealed=Sealed(row.kek_id, row.wrapped_key, {"user_name": row.sealed_user_name, kind.value: row.sealed_secret}),
    )
