"""`entries.ports.EntryRecords` on both databases."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    Select,
    and_,
    bindparam,
    delete,
    func,
    insert,
    or_,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite

from keyreeve.errors import EntryDamaged
from keyreeve_credentials.entries.names import ObjectName
from keyreeve_credentials.entries.ports import ROW, Entry, EntryFilter, EntryKind, EntrySource
from keyreeve_credentials.entries.tables import entries
from keyreeve_credentials.keys.ports import Sealed, StoredValue

# Built once: calls wait for them.
_BY_UID = select(entries).where(entries.c.entry_uid == bindparam("uid"), entries.c.array_id == bindparam("array"))
_BY_PLACE = select(entries).where(
    entries.c.array_id == bindparam("array"),
    entries.c.owner_key == bindparam("owner"),
    entries.c.resource_key == bindparam("resource"),
)
_ADD = {
    "sqlite": sqlite.insert(entries).on_conflict_do_nothing().returning(entries.c.entry_uid),
    "postgresql": postgresql.insert(entries).on_conflict_do_nothing().returning(entries.c.entry_uid),
}
_STATES = select(entries.c.entry_uid, entries.c.encryption, entries.c.version).where(
    entries.c.entry_uid.in_(bindparam("uids", expanding=True))
)
_STORE_AGAIN = update(entries).where(entries.c.entry_uid == bindparam("uid"))
_LAST = chr(0x10FFFF)
"""After every character of a name."""


class SqlEntries:
    """The records in one transaction; `write` executes a statement, or raises in a read transaction."""

    recorded_as = ROW

    def __init__(self, connection: Connection, write: Callable[..., Any]) -> None:
        self._connection = connection
        self._write = write

    def add(self, entry: Entry) -> bool:
        """See `EntryRecords.add`."""
        values = _values(entry) | {"used_at": entry.used_at}
        return self._write(_ADD[self._connection.dialect.name], values).first() is not None

    def add_all(self, made: Sequence[Entry]) -> None:
        """See `EntryRecords.add_all`."""
        self._write(insert(entries), [_values(entry) for entry in made])

    def get(self, array_id: str, entry_uid: str) -> Entry | None:
        """See `EntryRecords.get`."""
        return self._one(_BY_UID, {"uid": entry_uid, "array": array_id})

    def find(self, array_id: str, owner: ObjectName, resource: ObjectName) -> Entry | None:
        """See `EntryRecords.find`."""
        return self._one(_BY_PLACE, {"array": array_id, "owner": owner.key, "resource": resource.key})

    def replace(self, entry: Entry, *, encryption: int) -> bool:
        """See `EntryRecords.replace`."""
        c = entries.c
        done = self._write(
            update(entries)
            .where(c.entry_uid == entry.entry_uid, c.array_id == entry.array_id, c.encryption == encryption)
            .values(**_values(entry))
        )
        return bool(done.rowcount)

    def delete(self, array_id: str, entry_uid: str, *, version: int | None = None) -> bool:
        """See `EntryRecords.delete`."""
        gone = delete(entries).where(entries.c.entry_uid == entry_uid, entries.c.array_id == array_id)
        if version is not None:
            gone = gone.where(entries.c.version == version)
        return bool(self._write(gone).rowcount)

    def touch(self, entry_uid: str, used_at: int) -> None:
        """See `EntryRecords.touch`."""
        self._write(update(entries).where(entries.c.entry_uid == entry_uid).values(used_at=used_at))

    def count(self) -> int:
        """See `EntryRecords.count`."""
        return self._connection.execute(select(func.count()).select_from(entries)).scalar_one()

    def scan(self, after: str, limit: int) -> Sequence[Entry]:
        """See `EntryRecords.scan`."""
        query = select(entries).where(entries.c.entry_uid > after).order_by(entries.c.entry_uid).limit(limit)
        return [read_entry(row) for row in self._connection.execute(query)]

    def count_under(self, kek_id: str) -> int:
        """See `StoredValues.count_under`."""
        query = select(func.count()).select_from(entries).where(entries.c.kek_id == kek_id)
        return self._connection.execute(query).scalar_one()

    def page_under(self, kek_id: str, after: str, limit: int) -> Sequence[StoredValue]:
        """See `StoredValues.page_under`."""
        c = entries.c
        query = select(entries).where(c.kek_id == kek_id, c.entry_uid > after).order_by(c.entry_uid).limit(limit)
        found = [read_entry(row) for row in self._connection.execute(query)]
        return [
            StoredValue(e.name, e.array_id, e.entry_uid, e.owner.text, e.resource.text, e.encryption, e.sealed, e)
            for e in found
        ]

    def store_again(self, values: Sequence[StoredValue]) -> Sequence[tuple[StoredValue, bytes]]:
        """See `StoredValues.store_again`."""
        found = self._connection.execute(_STATES, {"uids": [value.uid for value in values]})
        states = {uid: (encryption, version) for uid, encryption, version in found}
        stored: list[tuple[StoredValue, bytes]] = []
        changes = []
        for value in values:
            again: Entry = replace(value.original, encryption=value.encryption, sealed=value.sealed)
            if states.get(value.uid) != (value.encryption - 1, again.version):
                continue
            stored.append((value, again.row_sha256()))
            changes.append(
                {
                    "uid": value.uid,
                    "encryption": again.encryption,
                    "kek_id": again.sealed.kek_id,
                    "wrapped_key": again.sealed.wrapped_key,
                    "sealed_user_name": again.sealed.fields["user_name"],
                    "sealed_secret": again.sealed.fields[again.kind.value],
                }
            )
        if changes:
            self._write(_STORE_AGAIN, changes)
        return stored

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

    def _one(self, query: Select[Any], values: Mapping[str, str]) -> Entry | None:
        row = self._connection.execute(query, values).one_or_none()
        return None if row is None else read_entry(row)


def _matches(column: ColumnElement[str], pattern: str) -> ColumnElement[bool]:
    """Compare with a pattern in which `*` stands for any characters."""
    if "*" not in pattern:
        return column == pattern
    beginning = pattern.partition("*")[0]
    if beginning and column is not entries.c.user_name_key:
        # A range of the index, which LIKE is not.
        return and_(column >= beginning, column < beginning + _LAST, _like(column, pattern))
    return _like(column, pattern)


def _like(column: ColumnElement[str], pattern: str) -> ColumnElement[bool]:
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
        "domain": entry.domain,
    }


def read_entry(row: Row[Any]) -> Entry:
    """Make an entry of its row. Raises `EntryDamaged`."""
    try:
        kind, source = EntryKind(row.kind), EntrySource(row.source)
    except ValueError:
        raise EntryDamaged(f"arrays/{row.array_id}/entries/{row.entry_uid} is damaged: its kind is unknown") from None
    owner, resource = ObjectName(row.owner), ObjectName(row.resource)
    return Entry(
        array_id=row.array_id,
        entry_uid=row.entry_uid,
        owner=owner,
        resource=resource,
        user_name=row.user_name,
        kind=kind,
        source=source,
        version=row.version,
        encryption=row.encryption,
        created_at=row.created_at,
        updated_at=row.updated_at,
        domain=row.domain,
        used_at=row.used_at,
        sealed=Sealed(row.kek_id, row.wrapped_key, {"user_name": row.sealed_user_name, kind.value: row.sealed_secret}),
        misplaced=(row.owner_key, row.resource_key) != (owner.key, resource.key),
    )
