"""Trust tables on both databases: what the service writes is true, and whatever another writes is found and named."""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from sqlalchemy import (
    Boolean,
    Column,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    delete,
    insert,
    select,
    text,
    update,
)

from keyreeve import errors
from keyreeve_chassis.database.transactions import Database
from keyreeve_chassis.keys.sealed import SealedKeyStore
from keyreeve_chassis.trust_tables.ports import Alteration, Problem
from keyreeve_chassis.trust_tables.sealing import seal_at_start
from keyreeve_chassis.trust_tables.seals import Seals
from keyreeve_chassis.trust_tables.sql import SqlTrust
from keyreeve_chassis.trust_tables.tables import TrustTable, TrustTables, heads_table, mac_column
from keyreeve_chassis.trust_tables.watching import TrustWatch
from support.databases import CaDatabase

metadata = MetaData()
HEADS = heads_table(metadata)
people = Table(
    "people",
    metadata,
    Column("name", Text, primary_key=True),
    Column("admin", Boolean(create_constraint=False), nullable=False),
    Column("removed_at", Integer, nullable=True),
    Column("note", Text, nullable=True),
    mac_column(),
)
bans = Table("bans", metadata, Column("serial", LargeBinary, primary_key=True), Column("why", Text), mac_column())
FIRST = TrustTables(
    HEADS, (TrustTable(people, (("admin", "removed_at"),)), TrustTable(bans, (("why",),), listed=False))
)
NEXT = TrustTables(
    HEADS, (TrustTable(people, (("admin", "removed_at"), ("note",))), TrustTable(bans, (("why",),), listed=False))
)
SEALS = Seals.of(SealedKeyStore(b"k" * 32, "test"))


@dataclass
class Bench:
    """Both tables in a database, written by the service (`write`) or by another (`attack`)."""

    database: Database
    declared: TrustTables = FIRST

    def write(self, work: Callable[[SqlTrust], Any]) -> Any:
        def whole(connection: Any) -> Any:
            trust = SqlTrust(connection, self.declared, SEALS, lambda: None)
            result = work(trust)
            trust.complete()
            return result

        return self.database.write_here(whole)

    def verify(self) -> list[Alteration]:
        return self.database.read_here(lambda c: SqlTrust(c, self.declared, SEALS, lambda: None).verify())

    def attack(self, statement: Any) -> None:
        self.database.write_here(lambda c: c.execute(statement))

    def rows(self, table: Table) -> list[dict[str, Any]]:
        return self.database.read_here(
            lambda c: [dict(row) for row in c.execute(select(table).order_by(table.primary_key.columns[0])).mappings()]
        )

    def fill(self) -> None:
        self.write(
            lambda trust: trust.rows(people).insert(
                *({"name": f"p{n}", "admin": n % 2 == 0, "removed_at": None} for n in range(8))
            )
        )
        self.write(lambda trust: trust.rows(bans).insert(*({"serial": bytes([n]), "why": "x"} for n in range(8))))


@pytest.fixture
def bench(ca_database: CaDatabase) -> Iterator[Bench]:
    database = ca_database.database()
    made = Bench(database)
    metadata.create_all(database.engine)
    made.write(lambda trust: trust.seal())
    made.fill()
    return made


def test_what_the_service_writes_is_true(bench: Bench) -> None:
    assert bench.verify() == []
    bench.write(lambda trust: trust.rows(people).update(people.c.name == "p1", {"removed_at": 7}))
    bench.write(lambda trust: trust.rows(people).delete(people.c.name == "p2"))
    bench.write(lambda trust: trust.rows(bans).delete(bans.c.serial == b"\x03"))

    def several(trust: SqlTrust) -> None:
        rows = trust.rows(people)
        rows.insert({"name": "p9", "admin": False, "removed_at": None})
        assert rows.update(people.c.admin.is_(False), {"removed_at": 9}) == 5
        assert rows.delete(people.c.name == "p9") == 1

    bench.write(several)
    assert bench.verify() == []


@pytest.mark.parametrize(
    ("statement", "found"),
    [
        (update(people).where(people.c.name == "p1").values(admin=True), Alteration("people", "p1", Problem.CHANGED)),
        (update(people).where(people.c.name == "p1").values(mac=None), Alteration("people", "p1", Problem.CHANGED)),
        (insert(people).values(name="eve", admin=True), Alteration("people", "eve", Problem.ADDED)),
        (delete(people).where(people.c.name == "p1"), Alteration("people", "p1", Problem.DELETED)),
        (delete(bans).where(bans.c.serial == b"\x01"), Alteration("bans", "", Problem.ROWS)),
        (update(bans).where(bans.c.serial == b"\x01").values(why="y"), Alteration("bans", "01", Problem.CHANGED)),
        (delete(HEADS).where(HEADS.c.name == "people"), Alteration("people", "", Problem.HEAD)),
        (delete(HEADS).where(HEADS.c.name == "*"), Alteration("*", "", Problem.HEAD)),
        (update(HEADS).where(HEADS.c.name == "bans").values(sealed=b"x"), Alteration("bans", "", Problem.HEAD)),
    ],
    ids=lambda value: str(value).replace("\n", " ") if isinstance(value, Alteration) else "",
)
def test_an_altered_row_or_head_is_found_and_named(bench: Bench, statement: Any, found: Alteration) -> None:
    bench.attack(statement)
    assert found in bench.verify()


def test_the_mac_of_one_row_or_table_does_not_fit_another(bench: Bench) -> None:
    rows = {row["name"]: row for row in bench.rows(people)}
    bench.attack(update(people).where(people.c.name == "p1").values(admin=True, mac=rows["p2"]["mac"]))
    assert bench.verify() == [Alteration("people", "p1", Problem.CHANGED)]


def test_an_earlier_state_of_a_row_that_is_put_back_is_found(bench: Bench) -> None:
    before = {row["name"]: row for row in bench.rows(people)}["p1"]
    bench.write(lambda trust: trust.rows(people).update(people.c.name == "p1", {"removed_at": 7}))
    bench.attack(update(people).where(people.c.name == "p1").values(**before))
    assert bench.verify() == [Alteration("people", "p1", Problem.PUT_BACK)]


def test_counting_the_macs_finds_a_row_that_was_deleted_or_put_back(bench: Bench) -> None:
    def differ(trust: SqlTrust, **kwargs: Any) -> list[Alteration]:
        return trust.rows_differ(**kwargs)

    before = {row["serial"]: row for row in bench.rows(bans)}[b"\x01"]
    bench.write(lambda trust: trust.rows(bans).update(bans.c.serial == b"\x01", {"why": "y"}))
    assert bench.write(differ) == []
    bench.attack(update(bans).where(bans.c.serial == b"\x01").values(**before))
    assert bench.write(differ) == [Alteration("bans", "", Problem.ROWS)]
    assert bench.write(lambda trust: differ(trust, most=7)) == [], "it has eight rows"
    with pytest.raises(errors.TrustTableAltered, match="bans"):
        bench.write(lambda trust: trust.rows(bans).current_one(bans.c.serial == b"\x02"))
    bench.attack(delete(HEADS).where(HEADS.c.name == "bans"))
    assert bench.write(differ) == [Alteration("bans", "", Problem.HEAD)]


def test_a_transaction_counts_its_own_changes(bench: Bench) -> None:
    def several(trust: SqlTrust) -> list[Alteration]:
        rows = trust.rows(bans)
        rows.insert({"serial": b"new", "why": "z"})
        rows.update(bans.c.serial == b"\x01", {"why": "y"})
        rows.delete(bans.c.serial == b"\x02")
        return trust.rows_differ()

    assert bench.write(several) == []


def test_a_reload_finds_a_row_of_a_small_table_that_was_put_back(bench: Bench) -> None:
    watch = TrustWatch(FIRST.listed)

    @dataclass
    class Read:
        trust: SqlTrust

    def look() -> frozenset[tuple[str, str]]:
        return bench.database.read_here(lambda c: watch.look(Read(SqlTrust(c, FIRST, SEALS, lambda: None))))

    assert look() == frozenset()
    bench.attack(delete(bans).where(bans.c.serial == b"\x01"))
    assert look() == {("bans", "")}
    bench.write(lambda trust: trust.seal())
    assert look() == frozenset()
    assert watch.found == ()


def test_a_table_that_is_put_back_together_with_its_head_is_found(bench: Bench) -> None:
    rows = bench.rows(bans)
    head = {row["name"]: row["sealed"] for row in bench.rows(HEADS)}["bans"]
    bench.write(lambda trust: trust.rows(bans).delete(bans.c.serial == b"\x01"))
    bench.attack(insert(bans).values(**next(row for row in rows if row["serial"] == b"\x01")))
    bench.attack(update(HEADS).where(HEADS.c.name == "bans").values(sealed=head))
    assert bench.verify() == [Alteration("bans", "", Problem.HEAD)]


def test_what_the_service_writes_later_hides_no_difference(bench: Bench) -> None:
    bench.attack(delete(people).where(people.c.name == "p1"))
    bench.attack(delete(bans).where(bans.c.serial == b"\x01"))
    found = bench.verify()
    bench.write(lambda trust: trust.rows(people).update(people.c.name == "p2", {"removed_at": 7}))
    bench.write(lambda trust: trust.rows(bans).insert({"serial": b"new", "why": "z"}))
    assert bench.verify() == found


def test_the_service_does_not_seal_a_row_that_another_has_changed(bench: Bench) -> None:
    bench.attack(update(people).where(people.c.name == "p1").values(admin=True))
    with pytest.raises(errors.TrustTableAltered, match="people/p1"):
        bench.write(lambda trust: trust.rows(people).update(people.c.name == "p1", {"removed_at": 7}))
    with pytest.raises(errors.TrustTableAltered, match="people/p1"):
        bench.write(lambda trust: trust.rows(people).one(people.c.name == "p1"))
    names = bench.write(lambda trust: [row["name"] for row in trust.rows(people).true_ones(select(people))])
    assert sorted(names) == ["p0", "p2", "p3", "p4", "p5", "p6", "p7"]


def test_sealing_anew_accepts_the_tables_as_they_are(bench: Bench) -> None:
    bench.attack(insert(people).values(name="eve", admin=True))
    bench.attack(delete(bans))
    bench.attack(delete(HEADS))
    assert bench.verify()
    bench.write(lambda trust: trust.seal())
    assert bench.verify() == []
    bench.write(lambda trust: trust.rows(people).delete(people.c.name == "eve"))
    assert bench.verify() == []


def test_a_start_seals_what_was_never_sealed_and_nothing_else(bench: Bench) -> None:
    bench.attack(delete(HEADS))
    bench.attack(update(people).values(mac=None))
    assert bench.write(lambda trust: seal_at_start(trust, ever_sealed=True)) is False
    assert bench.verify()
    assert bench.write(lambda trust: seal_at_start(trust, ever_sealed=False)) is True
    assert bench.verify() == []
    assert bench.write(lambda trust: seal_at_start(trust, ever_sealed=False)) is False


def test_a_table_of_a_new_release_is_sealed_at_its_first_start(ca_database: CaDatabase) -> None:
    database = ca_database.database()
    metadata.create_all(database.engine)
    old = Bench(database, TrustTables(HEADS, FIRST.tables[:1]))
    old.write(lambda trust: trust.seal())
    new = Bench(database)
    new.attack(insert(bans).values(serial=b"\x01", why="from before it was a trust table"))
    assert new.write(lambda trust: seal_at_start(trust, ever_sealed=True)) is True
    assert new.verify() == []


def test_two_releases_with_different_columns_write_one_table(bench: Bench) -> None:
    later = Bench(bench.database, NEXT)
    assert later.verify() == [], "columns of the new release that are NULL need no MAC"
    later.write(lambda trust: trust.rows(people).insert({"name": "new", "admin": False, "note": "by the new release"}))
    later.write(lambda trust: trust.rows(people).update(people.c.name == "p0", {"note": "changed"}))
    bench.write(lambda trust: trust.rows(people).update(people.c.name == "p0", {"removed_at": 5}))
    bench.write(lambda trust: trust.rows(people).update(people.c.name == "new", {"removed_at": 5}))
    bench.write(lambda trust: trust.rows(people).delete(people.c.name == "p1"))
    assert bench.verify() == later.verify() == []
    bench.attack(update(people).where(people.c.name == "p0").values(note="by another"))
    assert later.verify() == [Alteration("people", "p0", Problem.CHANGED)]
    bench.attack(update(people).where(people.c.name == "p3").values(note="by another"))
    assert Alteration("people", "p3", Problem.CHANGED) in later.verify()


def test_random_alterations_of_single_rows_are_all_found(bench: Bench) -> None:
    service, chance = Bench(bench.database, NEXT), random.Random(7)
    for n in range(6):
        service.write(lambda trust, n=n: trust.rows(people).update(people.c.name == f"p{n}", {"removed_at": n}))
    for _ in range(60):
        before = {table: bench.rows(table) for table in (people, bans)}
        table = chance.choice([people, bans])
        row = chance.choice(before[table])
        key = table.primary_key.columns[0]
        column = chance.choice([c for c in table.c if c is not key])
        other = {"admin": not row.get("admin"), "removed_at": 99, "mac": b"\x01" + chance.randbytes(16)}
        change = update(table).values({column.name: other.get(column.name, "other")})
        bench.attack(chance.choice([change, delete(table)]).where(key == row[key.name]))
        assert service.verify(), (row, column.name)
        for table in (people, bans):
            bench.attack(delete(table))
            bench.attack(insert(table).values(before[table]))
    assert service.verify() == []


def test_a_value_of_one_type_is_not_one_of_another(bench: Bench) -> None:
    bench.write(lambda trust: trust.rows(people).update(people.c.name == "p1", {"removed_at": 0}))
    bench.attack(text("UPDATE people SET removed_at = NULL WHERE name = 'p1'"))
    assert bench.verify() == [Alteration("people", "p1", Problem.CHANGED)]
