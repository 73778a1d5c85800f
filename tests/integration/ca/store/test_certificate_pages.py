"""Pages are the same with and without a read bound, and no statement scans the whole ledger."""

import itertools
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, event, text

from keyreeve.values import CrlReason
from keyreeve_ca.revocation.ports import NewRevocation
from keyreeve_ca.store import certificate_pages
from keyreeve_ca.store.ports import CertificateFilter, StoredCertificate
from support.databases import CaBench
from support.ledger_entries import CALLER, NOW, Block, profile_version

OTHER = "spiffe://example.test/workloads/other"
FILTERS: dict[str, Any] = {
    "authority_id": "estate-1",
    "profile_name": "server",
    "identity": "host-a.example.test",
    "caller": OTHER,
    "valid_at": NOW,
    "expired_at": NOW + 2_000,
    "expires_before": NOW + 3_000,
    "revoked": True,
    "issued_from": NOW,
    "issued_before": NOW + 1,
}
COMBINATIONS = [
    CertificateFilter(**{name: FILTERS[name] for name in names})
    for size in (0, 1, 2, len(FILTERS))
    for names in itertools.combinations(FILTERS, size)
    if size != 2 or {"caller", "revoked"} & set(names)
]
ALL = [*COMBINATIONS, *(replace(one, revoked=False) for one in COMBINATIONS if one.revoked)]


async def fill(bench: CaBench) -> list[StoredCertificate]:
    """6 blocks of 12 certificates of two profiles, callers, identities and ends; every third is revoked."""
    for n in range(6):
        block = await Block.leased(bench.ledger)
        claims = [
            block.claim(
                block.certificate(
                    profile_name="server" if i % 2 else "other",
                    caller=CALLER if i % 5 else OTHER,
                    identity=f"host-{'ab'[i % 2]}.example.test",
                    not_after=NOW + 1_000 * (n + i % 3),
                    issued_at=NOW + i % 3,
                )
            )
            for i in range(12)
        ]
        await bench.ledger.commit(block.group(*claims))
    stored = await bench.store.read(lambda tx: tx.certificates(CertificateFilter(), after=b"", limit=1_000))
    reason = CrlReason.SUPERSEDED
    new = [NewRevocation(c.serial, c.authority_id, c.not_after, reason, NOW, "me") for c in stored[::3]]
    await bench.store.write(lambda tx: tx.revocations.add(new))
    return list(stored)


def fits(one: StoredCertificate, wanted: CertificateFilter, revoked: set[bytes]) -> bool:
    """The filters, said again."""
    equal = ("authority_id", "profile_name", "identity", "caller")
    return (
        all(getattr(wanted, name) in (None, getattr(one, name)) for name in equal)
        and (wanted.valid_at is None or one.not_before <= wanted.valid_at <= one.not_after)
        and (wanted.expired_at is None or one.not_after < wanted.expired_at)
        and (wanted.expires_before is None or one.not_after < wanted.expires_before)
        and (wanted.issued_from is None or one.issued_at >= wanted.issued_from)
        and (wanted.issued_before is None or one.issued_at < wanted.issued_before)
        and (wanted.revoked is None or wanted.revoked == (one.serial in revoked))
    )


async def test_every_filter_finds_what_fits_page_by_page(ca_bench: CaBench, monkeypatch: pytest.MonkeyPatch) -> None:
    everything = await fill(ca_bench)
    revoked = {one.serial for one in everything[::3]}
    monkeypatch.setattr(certificate_pages, "MOST_READ", 20)
    monkeypatch.setattr(certificate_pages, "_BLOCKS_PER_QUERY", 2)
    monkeypatch.setattr(certificate_pages, "_SERIALS_PER_QUERY", 4)
    short = 0

    def walk(tx: Any) -> int:
        short = 0
        for wanted in ALL:
            expected = [one.serial for one in everything if fits(one, wanted, revoked)]
            found: list[bytes] = []
            after: bytes | None = b""
            while after is not None:
                page = tx.certificate_page(wanted, after=after, limit=9)
                short += page.next is not None and len(page.rows) < 9
                found += [row.serial for row in page.rows]
                after = page.next
            assert found == expected, wanted
            assert tx.count_certificates(wanted, after=b"") == (len(expected), None), wanted
            assert [c.serial for c in tx.certificates(wanted, after=b"", limit=100)] == expected
        return short

    short = await ca_bench.store.read(walk)
    assert short > 10, "pages ended early"


async def test_pages_from_the_newest_on_show_what_fits_once_and_in_order(
    ca_bench: CaBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    everything = await fill(ca_bench)
    await ca_bench.store.write(lambda tx: tx.add_profile_version(profile_version("other"), NOW, CALLER))
    revoked = {one.serial for one in everything[::3]}
    newest_first = sorted(everything, key=lambda one: (one.issued_at, one.serial), reverse=True)
    assert [one.serial for one in newest_first] != [one.serial for one in reversed(everything)]
    monkeypatch.setattr(certificate_pages, "MOST_READ", 20)
    monkeypatch.setattr(certificate_pages, "_SERIALS_PER_QUERY", 4)

    def walk(tx: Any) -> int:
        short = 0
        for wanted in ALL:
            found: list[bytes] = []
            after: bytes | None = b""
            while after is not None:
                page = tx.newest_page(wanted, after=after, limit=9)
                short += page.next is not None and len(page.rows) < 9
                assert len(page.rows) <= 9
                found += [row.serial for row in page.rows]
                after = page.next
            assert found == [one.serial for one in newest_first if fits(one, wanted, revoked)], wanted
        return short

    assert await ca_bench.store.read(walk) > 10, "pages ended early"


async def test_a_count_that_is_not_at_the_end_goes_on(ca_bench: CaBench) -> None:
    everything = await fill(ca_bench)
    wanted = CertificateFilter(caller=OTHER)

    def walk(connection: Any) -> tuple[int, int]:
        counted, after, steps = 0, b"", 0
        while after is not None:
            more, after = certificate_pages.count(connection, wanted, after=after, most_read=20)
            counted, steps = counted + more, steps + 1
        return counted, steps

    assert await ca_bench.writer.read(walk) == (sum(one.caller == OTHER for one in everything), 4)


async def test_no_statement_of_any_list_walks_the_ledger(ca_bench: CaBench) -> None:
    await fill(ca_bench)
    if not ca_bench.database.is_sqlite:  # SQLite is not analyzed
        await ca_bench.execute("ANALYZE")
    database = ca_bench.database.database()
    with recorded(database.engine) as statements:

        def lists(connection: Any) -> None:
            for wanted in ALL:
                certificate_pages.page(connection, wanted, after=b"", limit=3)
                certificate_pages.newest_page(connection, wanted, after=b"", limit=3, most_read=3)
                certificate_pages.count(connection, wanted, after=b"", most_read=1)
            certificate_pages.newest(connection, None, 10)
            certificate_pages.by_serial(connection, [b"x" * 16])

        database.read_here(lists)
    assert len(statements) > 30
    with database.engine.connect() as connection:
        if not ca_bench.database.is_sqlite:
            connection.execute(text("SET enable_seqscan = off"))  # so few rows would be worth no index
        for statement, parameters in statements:
            if ca_bench.database.is_sqlite:
                plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters).all()
                walks = [row[3] for row in plan if walks_on_sqlite(row[3], statement)]
            else:
                [[plan]] = connection.exec_driver_sql(f"EXPLAIN (FORMAT JSON) {statement}", parameters).all()
                walks = [json.dumps(n) for n in nodes(plan[0]["Plan"]) if walks_on_postgresql(n, statement)]
            assert not walks, (statement, walks)


@contextmanager
def recorded(engine: Engine) -> Iterator[list[tuple[str, Any]]]:
    """Statements about certificates that are executed, each once."""
    found: list[tuple[str, Any]] = []
    texts: set[str] = set()

    def record(_connection: Any, _cursor: Any, statement: str, parameters: Any, _context: Any, _many: bool) -> None:
        if ("FROM certificates" in statement or "JOIN certificates" in statement) and statement not in texts:
            texts.add(statement)
            found.append((statement, parameters))

    event.listen(engine, "before_cursor_execute", record)
    yield found
    event.remove(engine, "before_cursor_execute", record)


def walks_on_sqlite(detail: str, statement: str) -> bool:
    """An open-ended range of serial numbers is a walk, but for a page without any filter, which its size ends."""
    if "certificates" not in detail:
        return False
    if "(serial>?)" in detail:
        return "LIMIT" not in statement or " AND " in statement
    return not any(
        bound in detail for bound in ("serial>? AND serial<?", "serial=?", "identity_crc=?", "profile_name=?")
    )


def walks_on_postgresql(node: dict[str, Any], statement: str) -> bool:
    """The same of one node of a plan."""
    if not node.get("Relation Name", "").startswith("certificates"):  # one of its partitions
        return False
    bounds = str(node.get("Index Cond") or node.get("Recheck Cond") or "")
    if any(bound in bounds for bound in ("identity_crc =", "profile_name =", "serial =")):
        return False
    if "serial <" in bounds:
        return False
    return "LIMIT" not in statement or " AND " in statement


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for below in plan.get("Plans", ()):
        yield from nodes(below)


async def test_pages_and_counts_are_planned_for_what_the_tables_hold_now(ca_bench: CaBench) -> None:
    if ca_bench.database.is_sqlite:
        pytest.skip("SQLite keeps no plan from before its tables grew by much")

    def mode(connection: Connection) -> str:
        return str(connection.scalar(text("SHOW plan_cache_mode")))

    def after(connection: Connection) -> tuple[str, str, str]:
        before = mode(connection)
        certificate_pages.count(connection, CertificateFilter(revoked=False), after=b"", most_read=1)
        counted = mode(connection)
        connection.rollback()
        certificate_pages.page(connection, CertificateFilter(revoked=False), after=b"", limit=1)
        return before, counted, mode(connection)

    with ca_bench.writer.engine.connect() as connection:
        assert after(connection) == ("auto", "force_custom_plan", "force_custom_plan")
        connection.rollback()
        assert mode(connection) == "auto", "the signing path keeps its plans"
