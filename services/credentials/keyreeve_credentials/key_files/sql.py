"""`key_files.ports.KeyFileRecords` on both databases."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, and_, delete, func, insert, select, update

from keyreeve_credentials.key_files.ports import CONTENTS, FILE_ROW, Space, StoredFile
from keyreeve_credentials.key_files.tables import key_file_uses, key_files
from keyreeve_credentials.keys.ports import Sealed, StoredValue


class SqlKeyFiles:
    """The records in one transaction; `write` executes a statement, or raises in a read transaction."""

    recorded_as = FILE_ROW

    def __init__(self, connection: Connection, write: Callable[[Any], Any]) -> None:
        self._connection = connection
        self._write = write

    def names(self, space: Space) -> frozenset[str]:
        """See `KeyFileRecords.names`."""
        return frozenset(self._connection.scalars(select(key_files.c.name).where(_in(space))))

    def get(self, space: Space, name: str) -> StoredFile | None:
        """See `KeyFileRecords.get`."""
        row = self._connection.execute(select(key_files).where(_at(space, name))).one_or_none()
        return None if row is None else _file(row)

    def page(self, space: Space, *, after: str, limit: int) -> Sequence[StoredFile]:
        """See `KeyFileRecords.page`."""
        query = select(key_files).where(_in(space), key_files.c.name > after).order_by(key_files.c.name).limit(limit)
        return [_file(row) for row in self._connection.execute(query)]

    def add(self, made: StoredFile) -> None:
        """See `KeyFileRecords.add`."""
        self._write(insert(key_files).values(**_values(made)))

    def replace(self, changed: StoredFile, *, encryption: int) -> bool:
        """See `KeyFileRecords.replace`."""
        here = and_(key_files.c.file_uid == changed.file_uid, key_files.c.encryption == encryption)
        return bool(self._write(update(key_files).where(here).values(**_values(changed))).rowcount)

    def delete(self, space: Space, name: str) -> bool:
        """See `KeyFileRecords.delete`."""
        return bool(self._write(delete(key_files).where(_at(space, name))).rowcount)

    def count_under(self, kek_id: str) -> int:
        """See `StoredValues.count_under`."""
        query = select(func.count()).select_from(key_files).where(key_files.c.kek_id == kek_id)
        return self._connection.execute(query).scalar_one()

    def page_under(self, kek_id: str, after: str, limit: int) -> Sequence[StoredValue]:
        """See `StoredValues.page_under`."""
        c = key_files.c
        query = select(key_files).where(c.kek_id == kek_id, c.file_uid > after).order_by(c.file_uid).limit(limit)
        return [
            StoredValue(f.resource_name, f.space.array_id, f.file_uid, f.space.server, f.name, f.encryption, f.sealed)
            for f in (_file(row) for row in self._connection.execute(query))
        ]

    def store_again(self, values: Sequence[StoredValue]) -> Sequence[tuple[StoredValue, bytes]]:
        """See `StoredValues.store_again`."""
        stored = []
        for value in values:
            before = value.encryption - 1
            here = and_(key_files.c.file_uid == value.uid, key_files.c.encryption == before)
            row = self._connection.execute(select(key_files).where(here)).one_or_none()
            if row is None:
                continue
            again = replace(_file(row), encryption=value.encryption, sealed=value.sealed)
            if self.replace(again, encryption=before):
                stored.append((value, again.row_sha256()))
        return stored

    def scan(self, after: str, limit: int) -> Sequence[StoredFile]:
        """See `KeyFileRecords.scan`."""
        query = select(key_files).where(key_files.c.file_uid > after).order_by(key_files.c.file_uid).limit(limit)
        return [_file(row) for row in self._connection.execute(query)]

    def uses(self, space: Space) -> Mapping[str, tuple[str, ...]]:
        """See `KeyFileRecords.uses`."""
        c = key_file_uses.c
        query = select(c.name, c.service).where(_of(space)).order_by(c.name, c.service)
        found: dict[str, tuple[str, ...]] = {}
        for name, service in self._connection.execute(query):
            found[name] = (*found.get(name, ()), service)
        return found

    def assign(self, space: Space, service: str, names: Sequence[str]) -> None:
        """See `KeyFileRecords.assign`."""
        self._write(delete(key_file_uses).where(_of(space), key_file_uses.c.service == service))
        for name in sorted(set(names)):
            values = {"array_id": space.array_id, "server": space.server, "service": service, "name": name}
            self._write(insert(key_file_uses).values(**values))


def _in(space: Space) -> ColumnElement[bool]:
    return and_(key_files.c.array_id == space.array_id, key_files.c.server == space.server)


def _at(space: Space, name: str) -> ColumnElement[bool]:
    return and_(_in(space), key_files.c.name == name)


def _of(space: Space) -> ColumnElement[bool]:
    return and_(key_file_uses.c.array_id == space.array_id, key_file_uses.c.server == space.server)


def _values(stored: StoredFile) -> dict[str, Any]:
    return {
        "file_uid": stored.file_uid,
        "array_id": stored.space.array_id,
        "server": stored.space.server,
        "name": stored.name,
        "size": stored.size,
        "holds_private_key": stored.holds_private_key,
        "version": stored.version,
        "encryption": stored.encryption,
        "kek_id": stored.sealed.kek_id,
        "wrapped_key": stored.sealed.wrapped_key,
        "sealed_contents": stored.sealed.fields[CONTENTS],
        "created_at": stored.created_at,
        "updated_at": stored.updated_at,
    }


def _file(row: Row[Any]) -> StoredFile:
    return StoredFile(
        space=Space(row.array_id, row.server),
        file_uid=row.file_uid,
        name=row.name,
        size=row.size,
        holds_private_key=row.holds_private_key,
        version=row.version,
        encryption=row.encryption,
        created_at=row.created_at,
        updated_at=row.updated_at,
        sealed=Sealed(row.kek_id, row.wrapped_key, {CONTENTS: row.sealed_contents}),
    )
