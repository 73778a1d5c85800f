"""Trust tables on both databases: every write of a row makes its MAC, and a transaction ends with the heads.

Writers come one after the other: on PostgreSQL a head's row is locked from its reading to the commit.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, RowMapping, Select, and_, bindparam, delete, insert, select, update

from keyreeve_chassis.trust_tables.ports import ALL_ROWS, Alteration, Problem, table_altered
from keyreeve_chassis.trust_tables.seals import INDEX, Delta, Head, HeadUnusable, Seals, mac_entries, same_total
from keyreeve_chassis.trust_tables.tables import MAC, TrustTable, TrustTables, key_text

_AT_ONCE = 2_000
"""Rows fetched at once when a whole table is read."""


class SqlTrust:
    """The trust tables of one transaction; `complete` belongs at its end."""

    def __init__(
        self, connection: Connection, declared: TrustTables, seals: Seals, must_be_writable: Callable[[], None]
    ) -> None:
        self._connection = connection
        self._declared = declared
        self._seals = seals
        self._must_be_writable = must_be_writable
        self._deltas: dict[str, Delta] = {}

    def rows(self, table: Any) -> "SqlTrustRows":  # noqa: ANN401  # SQLAlchemy's Table
        """The rows of one table."""
        declared = self._declared.of(table)
        return SqlTrustRows(self._connection, declared, self._seals, self._must_be_writable, self)

    def unsealed(self) -> list[str] | None:
        """The tables that the index does not name, such as those of a new release; None when there is no index."""
        sealed = self._index()
        if sealed is None:
            return None
        try:
            versions = self._seals.open_index(sealed)
        except HeadUnusable:
            return []
        return [declared.name for declared in self._declared.tables if declared.name not in versions]

    def verify(self, tables: Collection[str] | None = None) -> list[Alteration]:
        """Read some tables, or all, and compare them with their heads."""
        found: list[Alteration] = []
        heads = self._heads(select(self._declared.heads))
        try:
            versions = self._seals.open_index(heads.get(INDEX, b""))
        except HeadUnusable:
            found.append(Alteration(INDEX, ALL_ROWS, Problem.HEAD))
            versions = {}
        for declared in self._declared.tables:
            if tables is not None and declared.name not in tables:
                continue
            try:
                head = self._seals.open_head(declared.name, heads.get(declared.name, b""))
            except HeadUnusable:
                head = None
            if head is None or head.version != versions.get(declared.name):
                found.append(Alteration(declared.name, ALL_ROWS, Problem.HEAD))
            found += self._compare(declared, head)
        return found

    def rows_differ(self, tables: Collection[str] | None = None, *, most: int | None = None) -> list[Alteration]:
        """Compare the MACs in tables with their heads: finds rows that were deleted or put back, cheaply.

        By default in those whose heads list no rows. A row's values are not compared with its MAC. Tables of more than
        `most` rows are left out.
        """
        names = {one.name for one in self._declared.tables if not one.listed} if tables is None else {*tables}
        heads_of = self._declared.heads
        # One statement: on PostgreSQL a head may change between two.
        heads = self._heads(select(heads_of).where(heads_of.c.name.in_([*names, INDEX])))
        try:
            versions = self._seals.open_index(heads.get(INDEX, b""))
        except HeadUnusable:
            return [Alteration(INDEX, ALL_ROWS, Problem.HEAD)]
        found: list[Alteration] = []
        for declared in (one for one in self._declared.tables if one.name in names):
            try:
                head = self._seals.open_head(declared.name, heads.get(declared.name, b""))
            except HeadUnusable:
                head = None
            if head is None or head.version != versions.get(declared.name):
                found.append(Alteration(declared.name, ALL_ROWS, Problem.HEAD))
                continue
            if most is not None and head.count > most:
                continue
            expected = head.changed(self._deltas.get(declared.name, Delta()))
            macs = self._connection.scalars(select(declared.table.c[MAC])).all()
            total = self._seals.total(entry for mac in macs for entry in mac_entries(mac).values())
            if not (len(macs) == expected.count and same_total(total, expected.total)):
                found.append(Alteration(declared.name, ALL_ROWS, Problem.ROWS))
        return found

    def seal(self, tables: Collection[str] | None = None) -> None:
        """Accept tables as they are, or all: new MACs and heads."""
        self._must_be_writable()
        versions = {} if tables is None else self._seals.open_index(self._index() or b"")
        for declared in self._declared.tables:
            if tables is not None and declared.name not in tables:
                continue
            head = Head(version=self._next_version(declared), listed={} if declared.listed else None)
            delta, rows = Delta(), self.rows(declared.table)
            new = []
            for row in self._all(declared):
                key, entries = rows.key_of(row), rows.entries(row, known=mac_entries(row[MAC]))
                if b"".join(entries) != row[MAC]:
                    new.append((key, b"".join(entries)))
                _count(delta, self._seals, key_text(key), (), entries)
            rows.replace_macs(new)
            head = head.changed(delta)
            versions[declared.name] = head.version
            self._put(declared.name, self._seals.close_head(declared.name, head))
            self._deltas.pop(declared.name, None)
        self._put(INDEX, self._seals.close_index(versions))

    def complete(self) -> None:
        """Write the heads of what this transaction has changed.

        A head that is missing or does not open stays as it is, and a difference between a head and its rows remains: what
        the service writes never hides what another has written.
        """
        if not self._deltas:
            return
        heads = self._declared.heads
        names = sorted([*self._deltas, INDEX])
        query = select(heads).where(heads.c.name.in_(names)).order_by(heads.c.name).with_for_update()
        known = self._heads(query)
        for name, delta in sorted(self._deltas.items()):
            try:
                head = self._seals.open_head(name, known.get(name, b""))
            except HeadUnusable:
                continue
            self._put(name, self._seals.close_head(name, head.changed(delta)))
        try:
            versions = self._seals.open_index(known.get(INDEX, b""))
        except HeadUnusable:
            pass
        else:
            versions |= {name: versions.get(name, 0) + 1 for name in self._deltas}
            self._put(INDEX, self._seals.close_index(versions))
        self._deltas.clear()

    def _heads(self, query: Select[Any]) -> dict[str, bytes]:
        return {row["name"]: row["sealed"] for row in self._connection.execute(query).mappings()}

    def _index(self) -> bytes | None:
        heads = self._declared.heads
        sealed: bytes | None = self._connection.scalar(select(heads.c.sealed).where(heads.c.name == INDEX))
        return sealed

    def _next_version(self, declared: TrustTable) -> int:
        """A version above that of the present head, where that can be read."""
        heads = self._declared.heads
        sealed = self._connection.scalar(select(heads.c.sealed).where(heads.c.name == declared.name))
        try:
            return self._seals.open_head(declared.name, sealed or b"").version
        except HeadUnusable:
            return 0

    def _compare(self, declared: TrustTable, head: Head | None) -> list[Alteration]:
        found: list[Alteration] = []
        seen = Delta()
        rows = self.rows(declared.table)
        expected = {} if head is None or head.listed is None else dict(head.listed)
        listed = head is not None and declared.listed
        for row in self._all(declared):
            key = key_text(rows.key_of(row))
            known = expected.pop(key, None)
            if listed and known is None:
                found.append(Alteration(declared.name, key, Problem.ADDED))
            elif not rows.is_true(row):
                found.append(Alteration(declared.name, key, Problem.CHANGED))
            elif listed and known != row[MAC]:
                found.append(Alteration(declared.name, key, Problem.PUT_BACK))
            if not listed:
                seen.count += 1
                seen.total += self._seals.total(mac_entries(row[MAC]).values())
        found += [Alteration(declared.name, key, Problem.DELETED) for key in expected]
        if head is not None and not listed and not (seen.count == head.count and same_total(seen.total, head.total)):
            found.append(Alteration(declared.name, ALL_ROWS, Problem.ROWS))
        return found

    def _all(self, declared: TrustTable) -> Iterable[RowMapping]:
        query = select(declared.table).execution_options(yield_per=_AT_ONCE)
        for part in self._connection.execute(query).mappings().partitions():
            yield from part

    def delta(self, name: str) -> Delta:
        """What this transaction changes in a table."""
        return self._deltas.setdefault(name, Delta())

    def _put(self, name: str, sealed: bytes) -> None:
        heads = self._declared.heads
        changed = self._connection.execute(update(heads).where(heads.c.name == name).values(sealed=sealed))
        if not changed.rowcount:
            self._connection.execute(insert(heads).values(name=name, sealed=sealed))


class SqlTrustRows:
    """The rows of one trust table in one transaction. Values are plain: no expressions."""

    def __init__(
        self,
        connection: Connection,
        declared: TrustTable,
        seals: Seals,
        must_be_writable: Callable[[], None],
        trust: SqlTrust,
    ) -> None:
        self._connection = connection
        self._declared = declared
        self._seals = seals
        self._must_be_writable = must_be_writable
        self._trust = trust

    def insert(self, *rows: Mapping[Any, Any]) -> None:
        """Insert rows; each names every column of the column sets that is not NULL."""
        self._must_be_writable()
        if not rows:
            return
        made = []
        for values in rows:
            entries = self.entries(values)
            made.append({**values, MAC: b"".join(entries)})
            _count(self._trust.delta(self._declared.name), self._seals, key_text(self.key_of(values)), (), entries)
        self._connection.execute(insert(self._declared.table), made)

    def update(self, where: ColumnElement[bool], values: Mapping[Any, Any], *, leave_altered: bool = False) -> int:
        """Change rows, and return how many.

        Raises `TrustTableAltered` for one that another has changed, or leaves it as it is.
        """
        self._must_be_writable()
        table = self._declared.table
        changed = 0
        for row in self._connection.execute(select(table).where(where).with_for_update()).mappings().all():
            if leave_altered and not self.is_true(row):
                continue
            self.refuse_unless_true(row)
            known = mac_entries(row[MAC])
            entries = self.entries({**row, **values}, known=known)
            this_row = and_(*(table.c[name] == row[name] for name in self._declared.key_names))
            self._connection.execute(update(table).where(this_row).values(**values, mac=b"".join(entries)))
            _count(
                self._trust.delta(self._declared.name), self._seals, key_text(self.key_of(row)), known.values(), entries
            )
            changed += 1
        return changed

    def delete(self, where: ColumnElement[bool]) -> int:
        """Delete rows, and return how many."""
        self._must_be_writable()
        table = self._declared.table
        columns = [table.c[name] for name in (*self._declared.key_names, MAC)]
        gone = self._connection.execute(select(*columns).where(where).with_for_update()).mappings().all()
        if gone:
            self._connection.execute(delete(table).where(where))
        for row in gone:
            known = mac_entries(row[MAC])
            _count(self._trust.delta(self._declared.name), self._seals, key_text(self.key_of(row)), known.values(), ())
        return len(gone)

    def one(self, where: ColumnElement[bool]) -> RowMapping | None:
        """The one row that fits, or None. Raises `TrustTableAltered` when another has changed it."""
        row = self._connection.execute(select(self._declared.table).where(where)).mappings().one_or_none()
        if row is not None:
            self.refuse_unless_true(row)
        return row

    def current_one(self, where: ColumnElement[bool], *, most: int | None = None) -> RowMapping | None:
        """The same, of a table in which no row was deleted or put back; one of more than `most` rows is not compared.

        For decisions that an earlier state of a row would turn round. Raises `TrustTableAltered`.
        """
        row = self.one(where)
        if row is not None:
            self.refuse_unless_current(most=most)
        return row

    def refuse_unless_current(self, *, most: int | None = None) -> None:
        """Raise `TrustTableAltered` when a row of the table was deleted or put back."""
        if found := self._trust.rows_differ([self._declared.name], most=most):
            raise table_altered(found)

    def true_ones(self, query: Select[Any]) -> list[RowMapping]:
        """The rows of a query for whole rows of the table, without those that another has changed."""
        return [row for row in self._connection.execute(query).mappings() if self.is_true(row)]

    def refuse_unless_true(self, row: Mapping[Any, Any]) -> None:
        """Raise `TrustTableAltered` for a row that another has changed."""
        if not self.is_true(row):
            key = key_text(self.key_of(row))
            raise table_altered([Alteration(self._declared.name, key, Problem.CHANGED)])

    def is_true(self, row: Mapping[Any, Any]) -> bool:
        """Whether the row's MACs are those of its values."""
        known, key = mac_entries(row[MAC]), self.key_of(row)
        for number, columns in enumerate(self._declared.column_sets, 1):
            values = [row[name] for name in columns]
            entry = known.get(number)
            if entry is None:
                if number == 1 or any(value is not None for value in values):
                    return False
            elif entry != self._seals.entry(self._declared.name, number, key, values):
                return False
        return True

    def entries(self, row: Mapping[Any, Any], *, known: Mapping[int, bytes] | None = None) -> list[bytes]:
        """The MACs of a row in order; those of sets that this release does not know stay as they are."""
        key, made = self.key_of(row), dict(known or {})
        for number, columns in enumerate(self._declared.column_sets, 1):
            made[number] = self._seals.entry(self._declared.name, number, key, [row.get(name) for name in columns])
        return [made[number] for number in sorted(made)]

    def key_of(self, row: Mapping[Any, Any]) -> tuple[Any, ...]:
        """The primary key of a row."""
        return tuple(row[name] for name in self._declared.key_names)

    def replace_macs(self, macs: Sequence[tuple[tuple[Any, ...], bytes]]) -> None:
        """Give rows another MAC by their keys, for `seal` alone."""
        if not macs:
            return
        table, names = self._declared.table, [f"key_{name}" for name in self._declared.key_names]
        this_row = and_(*(column == bindparam(name) for column, name in zip(table.primary_key, names, strict=True)))
        self._connection.execute(
            update(table).where(this_row).values(mac=bindparam("made")),
            [{**dict(zip(names, key, strict=True)), "made": mac} for key, mac in macs],
        )


def _count(delta: Delta, seals: Seals, key: str, before: Iterable[bytes], after: Sequence[bytes]) -> None:
    """Add the change of one row to a delta."""
    old = list(before)
    delta.total += seals.total(after) - seals.total(old)
    delta.count += bool(after) - bool(old)
    delta.listed[key] = b"".join(after) or None
