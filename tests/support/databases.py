"""Fresh, migrated databases of the CA for tests: a copied file on SQLite, a copied database on PostgreSQL.

`ca_database` runs a test on both; `sqlite_database`, `postgresql_database` and `postgresql_server` are there for tests of
one of them. The shared directory of the test run (see conftest.py) holds the templates and the server's address.
"""

import fcntl
import itertools
import os
import shutil
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
from keyreeve_chassis.schema.migrating import upgrade
from keyreeve_chassis.trust_tables.seals import Seals
from support.ledger_entries import NOW, STATED_PROFILE, WORKER, bootstrap
from support.postgres import Server, shared_server

SHARED_DIRECTORY = "KEYREEVE_TEST_RUN"
"""Environment variable that names the directory which all processes of a test run share."""
TEST_SEALS = Seals.of(SealedKeyStore(b"k" * 32, "test"))
"""Of databases that no service has started on."""
_TEMPLATE = "keyreeve_template"
_numbers = itertools.count(1)


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
def shared_directory() -> Path:
    return Path(os.environ[SHARED_DIRECTORY])


@pytest.fixture(scope="session")
def postgresql_server(shared_directory: Path) -> Server:
    """The PostgreSQL server of this test run."""
    return shared_server(shared_directory)


@pytest.fixture
def sqlite_database(shared_directory: Path, tmp_path: Path) -> Iterator[CaDatabase]:
    path = fresh_sqlite_database(tmp_path / "ca.sqlite", shared_directory)
    database = CaDatabase("sqlite", str(path))
    yield database
    database.close()


def fresh_sqlite_database(path: Path, shared: Path) -> Path:
    """Create a migrated database; return its path."""
    path.parent.mkdir(mode=0o700, exist_ok=True)
    shutil.copyfile(_sqlite_template(shared), path)
    path.chmod(0o600)
    return path


@contextmanager
def fresh_postgresql_database(server: Server, shared: Path) -> Iterator[str]:
    """The URL of a migrated database that is dropped afterwards."""
    _prepare_postgresql_template(server, shared)
    name = f"test_{os.getpid()}_{next(_numbers)}"
    server.execute(f"CREATE DATABASE {name} TEMPLATE {_TEMPLATE}")
    try:
        yield server.url(name)
    finally:
        server.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def postgresql_database(postgresql_server: Server, shared_directory: Path) -> Iterator[CaDatabase]:
    with fresh_postgresql_database(postgresql_server, shared_directory) as url:
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


def _sqlite_template(shared: Path) -> Path:
    path = shared / "template.sqlite"
    with _once(path) as missing:
        if missing:
            making = shared / "making.sqlite"
            engine = sqlite_writer(making)
            upgrade(engine, SCHEMA)
            engine.dispose()
            making.rename(path)
    return path


def _prepare_postgresql_template(server: Server, shared: Path) -> None:
    marker = shared / "postgresql.template"
    with _once(marker) as missing:
        if missing:
            server.execute(f"CREATE DATABASE {_TEMPLATE}")
            engine = postgresql(
                server.url(_TEMPLATE), schema=SCHEMA.name, application_name="test template", connections=1
            )
            upgrade(engine, SCHEMA)
            engine.dispose()
            marker.touch()


class _once:  # noqa: N801  # used like a function
    """Whether `made` is missing, under a lock that is held while it is created."""

    def __init__(self, made: Path) -> None:
        self._made = made
        self._lock = made.with_suffix(".lock").open("w")

    def __enter__(self) -> bool:
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        return not self._made.exists()

    def __exit__(self, *_: object) -> None:
        self._lock.close()
