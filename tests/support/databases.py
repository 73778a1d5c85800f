"""Fresh, migrated databases of the CA for tests.

`ca_database` runs a test on both; `sqlite_database`, `postgresql_database` and `postgresql_server` are there for tests of
one of them.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest
from sqlalchemy import Engine, text

from keyreeve_ca.ledger.postgresql import PostgresqlLedger
from keyreeve_ca.ledger.sqlite import SqliteLedger
from keyreeve_ca.store.ports import CertificateFilter
from keyreeve_ca.store.schema import SCHEMA
from keyreeve_ca.store.sql import CaStore, store_on
from keyreeve_chassis.database.engine import postgresql, sqlite_reader, sqlite_writer
from keyreeve_chassis.database.transactions import Database
from keyreeve_chassis.keys.sealed import SealedKeyStore
from keyreeve_chassis.trust_tables.seals import Seals
from support.ledger_entries import NOW, STATED_PROFILE, WORKER, bootstrap
from support.migrated import copied_postgresql, migrated_postgresql, migrated_sqlite, run_directory
from support.postgres import Server, shared_server

TEST_SEALS = Seals.of(SealedKeyStore(b"k" * 32, "test"))
"""Of databases that no service has started on."""


@dataclass
class CaDatabase:
    """A migrated database of the CA; everything it hands out is closed after the test."""

    kind: Literal["sqlite", "postgresql"]
    location: str
    """Path of the SQLite file, or URL."""
    now: Callable[[], int] = lambda: NOW
    _opened: list[Database] = field(default_factory=list)

    @property
    def is_sqlite(self) -> bool:
        return self.kind == "sqlite"

    def engine(self, *, connections: int = 1, readonly: bool = False) -> Engine:
        """On SQLite, a second writer beside one in use waits forever: do not use `database()` twice at the same time."""
        if not self.is_sqlite:
            return postgresql(self.location, schema=SCHEMA.name, application_name="test", connections=connections)
        path = Path(self.location)
        return sqlite_reader(path, connections=connections) if readonly else sqlite_writer(path)

    def database(self, *, threads: int = 1, readonly: bool = False) -> Database:
        opened = Database(self.engine(connections=threads, readonly=readonly), service=SCHEMA.service, threads=threads)
        self._opened.append(opened)
        return opened

    def store(self, writer: Database) -> CaStore:
        """A store that reads with its own connections."""
        reader = self.database(threads=2, readonly=True)
        return store_on(
            reader,
            writer,
            read_profile=lambda _document: STATED_PROFILE,
            now=self.now,
            process="test",
            seals=TEST_SEALS,
        )

    def ledger(self, writer: Database) -> SqliteLedger | PostgresqlLedger:
        if self.is_sqlite:
            return SqliteLedger(writer, seals=TEST_SEALS, now=self.now)
        return PostgresqlLedger(writer, seals=TEST_SEALS)

    def close(self) -> None:
        # Readers first: the writer's last act is to fold its log into the file.
        for opened in reversed(self._opened):
            opened.close()


class CaBench:
    """A bootstrapped database with a ledger and a store on one writer."""

    def __init__(self, database: CaDatabase) -> None:
        self.database = database
        self.writer = database.database()
        self.store = database.store(self.writer)
        self.ledger = database.ledger(self.writer)

    @classmethod
    async def on(cls, database: CaDatabase) -> "CaBench":
        bench = cls(database)
        await bench.store.write(bootstrap)
        if isinstance(bench.ledger, PostgresqlLedger):
            await bench.ledger.register_worker(WORKER, 60)
        return bench

    def another_ledger(self) -> SqliteLedger | PostgresqlLedger:
        """The ledger as another process opens it: with its own connection, or the same writer."""
        return self.ledger if self.database.is_sqlite else self.database.ledger(self.database.database())

    async def execute(self, statement: str) -> None:
        await self.writer.write(lambda c: c.execute(text(statement)))

    async def count(self, table: str) -> int:
        return await self.writer.read(lambda c: c.execute(text(f"SELECT count(*) FROM {table}")).scalar_one())

    async def stored(self) -> list[bytes]:
        """Serial numbers of the ledger, in order."""
        rows = await self.store.read(lambda tx: tx.certificates(CertificateFilter(), after=b"", limit=100_000))
        return [row.serial for row in rows]


@pytest.fixture(scope="session")
def postgresql_server() -> Server:
    """The PostgreSQL server of this test run."""
    return shared_server(run_directory())


@pytest.fixture
def sqlite_database(tmp_path: Path) -> Iterator[CaDatabase]:
    path = migrated_sqlite(tmp_path / "ca.sqlite", SCHEMA)
    database = CaDatabase("sqlite", str(path))
    yield database
    database.close()


@contextmanager
def fresh_postgresql_database(server: Server, template: str | None = None) -> Iterator[str]:
    """The URL of a migrated database, or a copy of `template`, that is dropped afterwards."""
    name = migrated_postgresql(server, SCHEMA) if template is None else copied_postgresql(server, template)
    try:
        yield server.url(name)
    finally:
        server.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def postgresql_database(postgresql_server: Server) -> Iterator[CaDatabase]:
    with fresh_postgresql_database(postgresql_server) as url:
        database = CaDatabase("postgresql", url)
        yield database
        database.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def ca_database(request: pytest.FixtureRequest) -> CaDatabase:
    """A database of each kind in turn."""
    database = request.getfixturevalue(f"{request.param}_database")
    assert isinstance(database, CaDatabase)
    return database


@pytest.fixture
async def ca_bench(ca_database: CaDatabase) -> CaBench:
    """A ledger and a store on a bootstrapped database of each kind in turn."""
    return await CaBench.on(ca_database)
