"""`operators.ports.OperatorRecords` on both databases."""

from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, select, update

from keyreeve.identity import Role
from keyreeve_ca.operators.ports import Operator, RegisteredKey
from keyreeve_ca.operators.tables import operator_keys, operators
from keyreeve_ca.requests.openssh_keys import stored_key

_NAMES = [f.name for f in fields(Operator) if f.name != "keys"]
_COLUMNS = [operators.c[name] for name in _NAMES]
_MOST_BOUND = 1_000
"""Values in one statement; for more people than that the keys of all are read."""


class SqlOperators:
    """The records in one transaction; `write` executes a statement, or raises in a read transaction."""

    def __init__(self, connection: Connection, write: Callable[[Any], Any], number: Callable[[], int]) -> None:
        self._connection = connection
        self._write = write
        self._number = number

    def active(self, *, after: str = "", limit: int | None = None) -> Sequence[Operator]:
        """Operators that have not been removed, in order of name, after `after`."""
        query = select(*_COLUMNS).where(operators.c.removed_at.is_(None), operators.c.name > after)
        rows = self._connection.execute(query.order_by(operators.c.name).limit(limit)).all()
        keys = self._keys([row.person_uid for row in rows])
        return [_person(row, keys.get(row.person_uid, ())) for row in rows]

    def find(self, name: str) -> Operator | None:
        """The operator with this name now, or None."""
        query = select(*_COLUMNS).where(operators.c.removed_at.is_(None), operators.c.name == name)
        row = self._connection.execute(query).one_or_none()
        return None if row is None else _person(row, self._keys([row.person_uid]).get(row.person_uid, ()))

    def add(self, person: Operator) -> None:
        """Insert an operator."""
        self._write(insert(operators).values(seq=self._number(), **_values(person)))

    def update(self, person: Operator) -> None:
        """Replace an operator's record."""
        values = _values(person) | {"seq": self._number()}
        self._write(update(operators).where(operators.c.person_uid == values.pop("person_uid")).values(**values))

    def set_keys(self, person_uid: str, keys: Sequence[RegisteredKey]) -> None:
        """Replace an operator's keys."""
        self._write(delete(operator_keys).where(operator_keys.c.person_uid == person_uid))
        for each in keys:
            row = {"fingerprint": each.key.fingerprint, "person_uid": person_uid, "line": each.key.line}
            self._write(insert(operator_keys).values(**row, added_at=each.added_at, added_by=each.added_by))

    def _keys(self, person_uids: Sequence[str]) -> dict[str, tuple[RegisteredKey, ...]]:
        """The keys of each operator, in order of their fingerprints."""
        found: dict[str, tuple[RegisteredKey, ...]] = {}
        columns = [operator_keys.c[name] for name in ("person_uid", "line", "added_at", "added_by")]
        query = select(*columns).order_by(operator_keys.c.fingerprint)
        if len(person_uids) <= _MOST_BOUND:
            query = query.where(operator_keys.c.person_uid.in_(person_uids))
        for uid, line, added_at, added_by in self._connection.execute(query):
            found[uid] = (*found.get(uid, ()), RegisteredKey(stored_key(line), added_at, added_by))
        return found


def _values(person: Operator) -> dict[str, Any]:
    return {name: getattr(person, name) for name in _NAMES}


def _person(row: Row[Any], keys: tuple[RegisteredKey, ...]) -> Operator:
    return Operator(**{**row._asdict(), "role": Role(row.role)}, keys=keys)
