"""`people_records.PeopleRecords` on both databases."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, fields
from typing import Any

from sqlalchemy import Connection, Row, insert, select, update

from keyreeve.identity import Role
from keyreeve_ca.people_records import Person
from keyreeve_ca.storage.people_tables import people

_COLUMNS = [people.c[f.name] for f in fields(Person)]


class SqlPeople:
    """The records in one transaction; `write` runs a statement, or raises in a transaction that only reads."""

    def __init__(self, connection: Connection, write: Callable[[Any], Any]) -> None:
        self._connection = connection
        self._write = write

    def active(self, *, after: str = "", limit: int | None = None) -> Sequence[Person]:
        """Those who have not been removed in order of name, from the one after `after`."""
        query = select(*_COLUMNS).where(people.c.removed_at.is_(None), people.c.name > after)
        return [_person(row) for row in self._connection.execute(query.order_by(people.c.name).limit(limit))]

    def find(self, name: str) -> Person | None:
        """The person who has this name now."""
        query = select(*_COLUMNS).where(people.c.removed_at.is_(None), people.c.name == name)
        row = self._connection.execute(query).one_or_none()
        return None if row is None else _person(row)

    def add(self, person: Person) -> None:
        """Store a new person."""
        self._write(insert(people).values(**asdict(person)))

    def update(self, person: Person) -> None:
        """Replace a person's record."""
        values = asdict(person)
        self._write(update(people).where(people.c.person_uid == values.pop("person_uid")).values(**values))


def _person(row: Row[Any]) -> Person:
    return Person(**{**row._asdict(), "role": Role(row.role)})
