"""Partitions of the ledger on PostgreSQL: an existing table becomes the first, while the last release runs."""

import asyncio
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import Connection, Engine, event, text

from keyreeve_ca.ledger import partitions
from keyreeve_ca.store import sql as store_sql
from keyreeve_ca.store.ports import CertificateFilter
from keyreeve_ca.store.schema import SCHEMA
from keyreeve_chassis.schema.migrating import drift, upgrade
from support.databases import CaBench, CaDatabase
from support.ledger_entries import NOW, Block
from support.postgres import Server

NAMES_BEFORE_0012 = {
    "control_plane": "plane",
    "restore_generation": "incarnation",
    "hierarchy": "tree",
    "requested_sans": "wished_names",
    "requested_lifetime_seconds": "wished_seconds",
}
_PARAMETER = r"%\("
_NEW_NAMES = re.compile(rf"(?<!{_PARAMETER})\b({'|'.join(NAMES_BEFORE_0012)})\b")


@dataclass
class OldDatabase(CaDatabase):
    """A database whose tables and columns have their names of before revision 0012, until `renamed` is set."""

    renamed: bool = False

    def engine(self, *, connections: int = 1, readonly: bool = False) -> Engine:
        engine, database = super().engine(connections=connections, readonly=readonly), self

        class OldNames(psycopg.Cursor[Any]):
            def execute(self, query: Any, *arguments: Any, **options: Any) -> "OldNames":
                return super().execute(database.named(query), *arguments, **options)

            def executemany(self, query: Any, *arguments: Any, **options: Any) -> None:
                super().executemany(database.named(query), *arguments, **options)

            def copy(self, statement: Any, *arguments: Any, **options: Any) -> Any:
                return super().copy(database.named(statement), *arguments, **options)

        class OldNamesOfStreams(psycopg.ServerCursor[Any]):
            def execute(self, query: Any, *arguments: Any, **options: Any) -> "OldNamesOfStreams":
                return super().execute(database.named(query), *arguments, **options)

        @event.listens_for(engine, "connect")
        def stream_with_old_names(connection: Any, _record: object) -> None:
            connection.server_cursor_factory = OldNamesOfStreams

        @event.listens_for(engine, "do_connect")
        def use_old_names(_dialect: object, _record: object, _arguments: object, options: dict[str, Any]) -> None:
            options["cursor_factory"] = OldNames

        return engine

    def named(self, statement: str) -> str:
        return statement if self.renamed else _NEW_NAMES.sub(lambda name: NAMES_BEFORE_0012[name[0]], statement)

    def migrate(self, revision: str) -> None:
        engine = super().engine(connections=2)
        if revision == "head":
            with engine.begin() as connection:
                for table in SEALED:
                    connection.execute(text(f"ALTER TABLE {table} DROP mac"))
                connection.execute(text("ALTER TABLE authorities DROP seq"))
                connection.execute(text("DROP TABLE trust_table_heads"))
                connection.execute(text("DROP TABLE blocked_keys"))
        upgrade(engine, SCHEMA, to=revision)
        engine.dispose()
        self.renamed = revision == "head"


SEALED = ("authorities", "profiles", "profile_versions")
"""Trust tables in which the fixture's rows are."""


@pytest.fixture
def old_database(postgresql_server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[OldDatabase]:
    """A database of the release before there were partitions."""
    declared = store_sql.TRUST_TABLES
    known = replace(declared, tables=tuple(table for table in declared.tables if table.name in SEALED))
    monkeypatch.setattr(store_sql, "TRUST_TABLES", known)
    name = f"old_{tmp_path.name}".replace("-", "_").lower()[:60]
    postgresql_server.execute(f'CREATE DATABASE "{name}"')
    database = OldDatabase("postgresql", postgresql_server.url(name))
    database.migrate("0008")
    # The ledger of today writes two columns of revision 0015, which adds them only where they are missing.
    engine = CaDatabase.engine(database, connections=2)
    with engine.begin() as connection:
        connection.execute(text("ALTER TABLE certificates ADD requested_common_name text"))
        connection.execute(text("ALTER TABLE certificates ADD ignored text NOT NULL DEFAULT '[]'"))
        # And the seals of revision 0016, before which they are dropped again.
        for table in SEALED:
            connection.execute(text(f"ALTER TABLE {table} ADD mac bytea"))
        connection.execute(text("ALTER TABLE authorities ADD seq bigint"))
        SCHEMA.metadata.tables["trust_table_heads"].create(connection)
        # And asks for the blocked keys of revision 0017.
        SCHEMA.metadata.tables["blocked_keys"].create(connection)
    engine.dispose()
    yield database
    database.close()
    postgresql_server.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


def counted(connection: Connection) -> dict[str, int]:
    rows = connection.execute(text("SELECT tableoid::regclass::text, count(*) FROM certificates GROUP BY 1"))
    return {name.split(".")[-1]: number for name, number in rows}


async def test_groups_are_committed_before_within_and_after_the_migration(old_database: OldDatabase) -> None:
    bench = await CaBench.on(old_database)
    block = await Block.leased(bench.ledger)
    for revision in ("0008", "0009", "0010", "0011", "head"):
        await asyncio.to_thread(old_database.migrate, revision)
        await bench.ledger.commit(block.group(block.claim(), block.claim()))
    engine = old_database.engine(connections=2)
    assert drift(engine, SCHEMA) == []
    with engine.connect() as connection:
        held = counted(connection)
        days = partitions.days(connection)
        children = "SELECT count(*) FROM pg_inherits WHERE inhparent = 'certificates'::regclass"
        assert connection.scalar(text(children)) == len(days) + 1
    engine.dispose()
    assert held == {f"certificates_until_{days[0]}": len(await bench.stored())}, "what is leased now is of the first"
    assert len(held) == 1


async def test_a_commit_under_way_is_waited_for(old_database: OldDatabase) -> None:
    bench = await CaBench.on(old_database)
    block = await Block.leased(bench.ledger)
    old_database.migrate("0010")

    async def commit_all() -> None:
        for _ in range(30):
            await bench.ledger.commit(block.group(block.claim()))

    await asyncio.gather(commit_all(), asyncio.to_thread(old_database.migrate, "0011"))
    assert len(await bench.stored()) == 30


async def test_partitions_are_made_ahead_and_far_numbers_have_a_place(postgresql_database: CaDatabase) -> None:
    bench = await CaBench.on(postgresql_database)
    engine = bench.writer.engine
    with engine.connect() as connection:
        before = partitions.days(connection)
        connection.execute(text(f"DROP TABLE certificates_until_{before[-1]}"))
        connection.commit()
    assert await bench.ledger.extend_partitions() == 1
    assert await bench.ledger.extend_partitions() == 0
    with engine.connect() as connection:
        assert partitions.days(connection) == before
    far = 2_000 * partitions.DAY
    for ahead in (40 * partitions.DAY, far):
        await bench.execute(f"UPDATE control_plane SET last_block_id = last_block_id + ({ahead}::bigint << 14)")
        block = await Block.leased(bench.ledger)
        await bench.ledger.commit(block.group(block.claim()))
    with engine.connect() as connection:
        held = counted(connection)
        assert len(held) == 2
        assert held["certificates_rest"] == 1
    assert len(await bench.stored()) == 2
    everything = await bench.store.read(lambda tx: tx.certificates(CertificateFilter(valid_at=NOW), after=b"", limit=5))
    assert [c.serial for c in everything] == await bench.stored()


async def test_where_rows_are_in_the_rest_no_partition_is_made(postgresql_database: CaDatabase) -> None:
    bench = await CaBench.on(postgresql_database)
    await bench.execute(
        "UPDATE control_plane SET last_block_id = ((SELECT floor(extract(epoch FROM now()))::bigint) - 1767225600 << 14)"
    )
    with bench.writer.engine.connect() as connection:
        before = partitions.days(connection)
        for day in before[1:]:
            connection.execute(text(f"DROP TABLE certificates_until_{day}"))
        connection.commit()
    await bench.execute(
        f"UPDATE control_plane SET last_block_id = last_block_id + ({40 * partitions.DAY}::bigint << 14)"
    )
    block = await Block.leased(bench.ledger)
    await bench.ledger.commit(block.group(block.claim()))
    assert await bench.ledger.extend_partitions() == len(before) - 2
    await bench.ledger.commit(block.group(block.claim()))
    with bench.writer.engine.connect() as connection:
        assert counted(connection) == {"certificates_rest": 2}


async def test_a_partition_that_is_over_goes_when_nothing_is_left_in_it(postgresql_database: CaDatabase) -> None:
    bench = await CaBench.on(postgresql_database)
    block = await Block.leased(bench.ledger)
    await bench.ledger.commit(block.group(block.claim()))
    engine = bench.writer.engine
    with engine.connect() as connection:
        first, *others = partitions.days(connection)
        over = first - partitions.PARTITION_DAYS * 3
        connection.execute(text(f"ALTER TABLE certificates DETACH PARTITION certificates_until_{first}"))
        connection.execute(text(f"ALTER TABLE certificates_until_{first} RENAME TO certificates_until_{over}"))
        connection.execute(
            text(
                f"ALTER TABLE certificates ATTACH PARTITION certificates_until_{over}"
                f" FOR VALUES FROM (MINVALUE) TO ({partitions.bound(first)})"
            )
        )
        connection.commit()
    await bench.ledger.tend_partitions()
    assert len(await bench.stored()) == 1, "it is not empty"
    await bench.execute("DELETE FROM requests")
    assert await bench.ledger.purge_certificates(block.lease.block_id, NOW * 2, 10) == 1
    await bench.ledger.tend_partitions()
    with engine.connect() as connection:
        assert partitions.days(connection) == others
    await bench.ledger.commit(block.group(block.claim()))
    with engine.connect() as connection:
        assert counted(connection) == {"certificates_rest": 1}, "a block that was open still"
