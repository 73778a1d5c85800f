"""Opening a service's database, and what can be wrong with it."""

import zlib
from collections.abc import Callable, Iterator, Set
from contextlib import contextmanager

from sqlalchemy import Engine, text
from sqlalchemy.exc import OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as NotOpenedInTime

from keyreeve.errors import WrongDatabase
from keyreeve_chassis.database import engine, locking
from keyreeve_chassis.database.binding import DatabaseBinding
from keyreeve_chassis.database.transactions import READ_ONLY_SESSION, Database
from keyreeve_chassis.local_admin.findings import Finding
from keyreeve_chassis.processes.refusals import StartRefused
from keyreeve_chassis.schema import revisions
from keyreeve_chassis.schema.revisions import Schema
from keyreeve_chassis.settings.pools import LARGEST_POOL, ConnectionPlan, ServerLimits
from keyreeve_chassis.settings.sections import DatabaseServerSettings

READERS = 3
"""Threads that read an SQLite file: two costly reads (`guard.costly_reads`) leave one for all others."""


@contextmanager
def writing_database(
    settings: DatabaseServerSettings,
    schema: Schema,
    *,
    threads: int = LARGEST_POOL,
    fresh_plans: bool = False,
    announce: Callable[[Set[str]], None] = lambda _: None,
) -> Iterator[Database]:
    """Open the database for writing; SQLite with its file lock and one thread. Raises `StartRefused`.

    On PostgreSQL there are at most as many threads, with a connection each, as the connection plan of the settings allows.

    `fresh_plans`: see `engine.postgresql`; for a process with few statements that read much.
    """
    path = settings.sqlite_file
    if path is not None:
        locking.refuse_network_file_system(path)
        with locking.FileLock(path):
            yield from _open(Database(engine.sqlite_writer(path), service=schema.service, threads=1, announce=announce))
        return

    if settings.database.verify_tls:
        for url in (settings.database.url.get_secret_value(), settings.direct_url):
            engine.refuse_unverified(url)

    def pool(connections: int) -> Engine:
        return engine.postgresql(
            settings.database.url.get_secret_value(),
            schema=schema.name,
            application_name=f"keyreeve-{schema.service}",
            connections=connections,
            fresh_plans=fresh_plans,
            pooled=settings.database.pooled,
        )

    made = pool(threads)
    limits = _refuse_unusable(made)
    if limits is not None and not settings.database.pooled:
        allowed = settings.connection_plan.pool_size(limits)
        if allowed < threads:
            made.dispose()
            threads, made = allowed, pool(allowed)
    yield from _open(
        Database(made, service=schema.service, threads=threads, announce=announce, pooled=settings.database.pooled)
    )


@contextmanager
def reading_database(settings: DatabaseServerSettings, schema: Schema) -> Iterator[Database]:
    """Open the SQLite file read-only."""
    path = settings.sqlite_file
    assert path is not None, "only SQLite separates reading from writing"
    yield from _open(Database(engine.sqlite_reader(path, connections=READERS), service=schema.service, threads=READERS))


@contextmanager
def direct_engine(settings: DatabaseServerSettings, schema: Schema, database: Database) -> Iterator[Engine]:
    """Open an engine for migrations and session locks.

    On PostgreSQL it bypasses any pooler (`database.direct_url`).
    """
    if database.is_sqlite:
        yield database.engine
        return
    made = engine.postgresql(
        settings.direct_url,
        schema=schema.name,
        application_name=f"keyreeve-{schema.service}-direct",
        connections=1,
    )
    try:
        yield made
    finally:
        made.dispose()


@contextmanager
def first_start_lock(engine: Engine, schema: Schema) -> Iterator[None]:
    """Hold the lock of a service's first start. On SQLite the file's lock is held already.

    `engine` is a `direct_engine`: a session lock does not survive a pooler in transaction mode.
    """
    if engine.dialect.name == "sqlite":
        yield
        return
    key = zlib.crc32(f"keyreeve {schema.service} first start".encode())
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("SET lock_timeout = '120s'"))
        connection.execute(text("SET statement_timeout = '120s'"))
        connection.execute(text("SELECT pg_advisory_lock(:lock)"), {"lock": key})
        try:
            yield
        finally:
            connection.execute(text("SELECT pg_advisory_unlock(:lock)"), {"lock": key})
            connection.invalidate()


def place_of(settings: DatabaseServerSettings) -> str:
    """The database's location without credentials."""
    if settings.sqlite_file is not None:
        return f"SQLite {settings.sqlite_file}"
    url = engine.postgresql_url(settings.database.url.get_secret_value())
    host, port = url.host or url.query.get("host", ""), url.port or url.query.get("port", "")
    host = host if isinstance(host, str) else ",".join(host)
    return f"PostgreSQL {host}{port and f':{port}'}/{url.database or ''}"


_NEVER = (
    "password authentication failed",
    "no password supplied",
    "does not exist",
    "no pg_hba.conf entry",
    "certificate authentication failed",
    "SSL is not enabled",
    "server does not support SSL",
    "certificate verify failed",
    "does not match host name",
    "permission denied for database",
    "is not permitted to log in",
    "invalid sslmode value",
    "invalid connection option",
)
"""Parts of libpq's messages for a connection that no further attempt can open."""


_STANDBY = (
    "the server of database.url is a standby, which takes no writes; name the primary, or all servers and "
    "target_session_attrs=read-write"
)
_LOOK = text(
    "SELECT current_setting('server_encoding'), pg_is_in_recovery(), current_setting('max_connections')::int"
    " - current_setting('superuser_reserved_connections')::int"
    " - coalesce(current_setting('reserved_connections', true), '0')::int,"
    " (SELECT rolconnlimit FROM pg_roles WHERE rolname = current_user)"
)


def _refuse_unusable(made: Engine) -> ServerLimits | None:
    """Return the server's limits; None for one that is away, which is waited for elsewhere.

    Raises `DatabaseRefused` for a database that can never be used.
    """
    limits = None
    try:
        with made.connect() as connection:
            encoding, is_standby, *numbers = connection.execute(_LOOK).one()
            limits = ServerLimits(*numbers)
    except SQLAlchemyError as failure:
        # libpq's message has the host and the user, never the password.
        said = " ".join(str(getattr(failure, "orig", "")).split())
        if any(part in said for part in _NEVER):
            made.dispose()
            raise locking.DatabaseRefused(f"PostgreSQL refuses the connection of database.url: {said}") from None
        if READ_ONLY_SESSION in said and engine.primary_only(made.url):
            made.dispose()
            raise locking.DatabaseRefused(_STANDBY) from None
        return None
    except TypeError:
        encoding, is_standby = "SQL_ASCII", False  # SQLAlchemy's first look at it: psycopg has bytes for text there
    problem = ""
    if encoding == "SQL_ASCII":
        problem = "the database's encoding is SQL_ASCII; create one with ENCODING 'UTF8' TEMPLATE template0"
    elif is_standby:
        problem = _STANDBY
    if problem:
        made.dispose()
        raise locking.DatabaseRefused(problem)
    return limits


def _open(database: Database) -> Iterator[Database]:
    try:
        yield database
    finally:
        database.close()


def look_at_sqlite(settings: DatabaseServerSettings, release: engine.SqliteRelease) -> Iterator[Finding]:
    """Check whether SQLite has the WAL-reset bug. Services work around it; other programs may not."""
    if settings.sqlite_file is None:
        return
    if not release.has_wal_reset_bug:
        yield Finding("sqlite", ok=True, message=f"SQLite {release.version}")
        return
    yield Finding(
        "sqlite",
        ok=True,
        message=f"SQLite {release.version} can corrupt a WAL database that two connections checkpoint at once; the service "
        "has only one that writes, which avoids it",
        fix="open the database with no other program while the service runs, and use a Python with SQLite "
        f"{'.'.join(map(str, engine.WAL_RESET_BUG_FIXED))} or newer",
    )


def look_at_database(
    settings: DatabaseServerSettings,
    schema: Schema,
    binding: DatabaseBinding,
    look_inside: Callable[[Database], Iterator[Finding]],
) -> Iterator[Finding]:
    """Check that the database opens, belongs to the state directory, and has a usable revision."""
    opened = writing_database if settings.sqlite_file is None else reading_database
    try:
        recalled = binding.recall()
        if settings.sqlite_file is not None and not settings.sqlite_file.exists():
            binding.check(None, recalled)
            yield Finding(
                "database", ok=False, message=f"{settings.sqlite_file} does not exist", fix="keyreeve up makes it"
            )
            return
        with opened(settings, schema) as database:
            if revisions.current_revision(database.engine, schema) is None:
                binding.check(None, recalled)
            version = revisions.check_version(database.engine, schema)
            yield Finding("database", ok=True, message=f"schema version {version} in {binding.place}")
            limits = None if database.is_sqlite or settings.database.pooled else _refuse_unusable(database.engine)
            if limits is not None:
                yield look_at_connections(settings.connection_plan, limits)
            yield from look_inside(database)
    except WrongDatabase as wrong:
        yield Finding("database", ok=False, message=f"{wrong.reason}: {wrong.message}", fix=wrong.fix)
    except (StartRefused, SQLAlchemyError) as refused:
        yield Finding("database", ok=False, message=_why_unusable(refused, settings, binding), fix=_CHECK_DATABASE)


def look_at_connections(plan: ConnectionPlan, limits: ServerLimits) -> Finding:
    """Check that the connections of all replicas fit, and leave what the other services need."""
    size, most, budget = plan.pool_size(limits), plan.most(limits), plan.budget(limits)
    allowed = limits.connections if limits.of_role < 0 else min(limits.of_role, limits.connections)
    said = (
        f"{plan.at_once} replicas at once x {plan.pools} pools of {size} and {plan.beside_pools} more take up to {most} of "
        f"{allowed} connections, of which {budget} are meant for this service"
    )
    fix = "Raise max_connections, put PgBouncer in front (docs/scaling.md), or lower database.replicas or database.pool"
    return Finding("connections", ok=most <= allowed, message=said, fix="" if most <= budget else fix)


_CHECK_DATABASE = "Start the database, or correct database.url in the settings"


def _why_unusable(problem: Exception, settings: DatabaseServerSettings, binding: DatabaseBinding) -> str:
    """Say why a database cannot be used. Of SQLAlchemy's errors the type alone: the text may hold the URL's password."""
    if not isinstance(problem, SQLAlchemyError):
        return str(problem)
    if settings.sqlite_file is None and isinstance(problem, OperationalError | NotOpenedInTime):
        return f"{binding.place} does not answer: nothing is issued or changed until it does"
    return f"{binding.place} cannot be read: {type(problem).__name__}"
