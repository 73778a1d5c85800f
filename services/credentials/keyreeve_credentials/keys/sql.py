"""`keys.ports.KekRecords` on both databases."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy import Connection, Row, select, update
from sqlalchemy.dialects import postgresql, sqlite

from keyreeve_credentials.keys.ports import Kek, KekState
from keyreeve_credentials.keys.tables import keks

_COLUMNS = [keks.c[name] for name in ("kek_id", "array_id", "number", "state", "wraps", "created_at", "changed_at")]


class SqlKeks:
    """The records in one transaction; `write` executes a statement, or raises in a read transaction."""

    def __init__(self, connection: Connection, write: Callable[[Any], Any]) -> None:
        self._connection = connection
        self._write = write

    def add(self, kek: Kek) -> bool:
        """See `KekRecords.add`."""
        values = asdict(kek) | {"state": kek.state.value}
        dialect = sqlite if self._connection.dialect.name == "sqlite" else postgresql
        done = self._write(dialect.insert(keks).values(**values).on_conflict_do_nothing())
        return bool(done.rowcount)

    def get(self, kek_id: str) -> Kek | None:
        """See `KekRecords.get`."""
        row = self._connection.execute(select(*_COLUMNS).where(keks.c.kek_id == kek_id)).one_or_none()
        return None if row is None else _kek(row)

    def writer(self, array_id: str) -> Kek | None:
        """See `KekRecords.writer`."""
        query = select(*_COLUMNS).where(keks.c.array_id == array_id, keks.c.state == KekState.WRITER.value)
        row = self._connection.execute(query).one_or_none()
        return None if row is None else _kek(row)

    def of_array(self, array_id: str) -> Sequence[Kek]:
        """See `KekRecords.of_array`."""
        query = select(*_COLUMNS).where(keks.c.array_id == array_id).order_by(keks.c.number)
        return [_kek(row) for row in self._connection.execute(query)]

    def all(self) -> Sequence[Kek]:
        """See `KekRecords.all`."""
        return [_kek(row) for row in self._connection.execute(select(*_COLUMNS).order_by(keks.c.kek_id))]

    def use_writer(self, array_id: str, wraps: int) -> Kek | None:
        """See `KekRecords.use_writer`."""
        changed = (
            update(keks)
            .where(keks.c.array_id == array_id, keks.c.state == KekState.WRITER.value)
            .values(wraps=keks.c.wraps + wraps)
            .returning(*_COLUMNS)
        )
        row = self._write(changed).one_or_none()
        return None if row is None else _kek(row)


def _kek(row: Row[Any]) -> Kek:
    return Kek(**{**row._asdict(), "state": KekState(row.state)})
