"""Opening the database: the one that may write, and SQLite for reading alone."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import make_url, text

from keyreeve_ca.settings import CaSettings
from keyreeve_ca.store.schema import SCHEMA
from keyreeve_chassis.database import engine, locking
from keyreeve_chassis.database.transactions import Database, register_failpoints

SERVICE = "ca"
"""Name of the service in metrics, failpoints and threads."""
_BOOTSTRAP_LOCK = 0x6B72_6361
"""PostgreSQL advisory lock (any number that nobody else uses in this database)."""


register_failpoints(SERVICE)  # before a process arms them, which it does before it opens anything


@contextmanager
def writing_database(settings: CaSettings, *, threads: int = 4, plan_anew: bool = False) -> Iterator[Database]:
    """The database for writing; SQLite under its file's lock, with one thread. Raises `DatabaseRefused`.

    `plan_anew`: see `engine.postgresql`; for a process whose statements are few and read much.
    """
    path = settings.sqlite_file
    if path is not None:
        locking.refuse_network_file_system(path)
        with locking.FileLock(path):
            yield from _open(Database(engine.sqlite_writer(path), service=SERVICE, threads=1))
        return
    url = settings.database.url.get_secret_value()
    made = engine.postgresql(
        url, schema=SCHEMA.name, application_name="keyreeve-ca", connections=threads, plan_anew=plan_anew
    )
    yield from _open(Database(made, service=SERVICE, threads=threads))


def place_of(settings: CaSettings) -> str:
    """Where the database is, without who enters it and how."""
    if settings.sqlite_file is not None:
        return f"SQLite {settings.sqlite_file}"
    url = make_url(settings.database.url.get_secret_value())
    host, port = url.host or url.query.get("host", ""), url.port or url.query.get("port", "")
    return f"PostgreSQL {host}{port and f':{port}'}/{url.database or ''}"


@contextmanager
def reading_database(settings: CaSettings) -> Iterator[Database]:
    """The SQLite file for reading alone."""
    path = settings.sqlite_file
    assert path is not None, "only SQLite separates reading from writing"
    yield from _open(Database(engine.sqlite_reader(path, connections=2), service=SERVICE, threads=2))


def _open(database: Database) -> Iterator[Database]:
    try:
        yield database
    finally:
        database.close()


@contextmanager
def bootstrap_lease(database: Database) -> Iterator[None]:
    """Held while the control plane is made: on SQLite the file's lock is that lease, on PostgreSQL an advisory lock."""
    if database.is_sqlite:
        yield
        return
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("SET lock_timeout = '120s'"))
        connection.execute(text("SET statement_timeout = '120s'"))
        connection.execute(text("SELECT pg_advisory_lock(:lock)"), {"lock": _BOOTSTRAP_LOCK})
        try:
            yield
        finally:
            connection.execute(text("SELECT pg_advisory_unlock(:lock)"), {"lock": _BOOTSTRAP_LOCK})
            connection.invalidate()
