"""SQLAlchemy engines with the settings that durability and safety need, for both databases.

SQLite: WAL with `synchronous=FULL` (a commit is on disk when it returns), one writing connection, which is also the
only one that checkpoints: SQLite before 3.51.3 can corrupt a WAL database that two connections checkpoint. PostgreSQL:
psycopg 3, READ COMMITTED, `synchronous_commit=on`, time limits on statements and locks, and a `search_path` of the
service's schema alone.
"""

import os
import select
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy import URL, Connection, Engine, QueuePool, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError

from keyreeve_chassis.processes.refusals import StartRefused

WAL_RESET_BUG_FIXED = (3, 51, 3)
"""The first SQLite release in which two connections may checkpoint one WAL database."""
_PAGE_BYTES = 8192
"""A ledger row is about 1.5 kB: four or five of them fill a page without much waste."""
_CHECKPOINT_PAGES = 4096
"""32 MiB of WAL between checkpoints: rare enough to write each page of an index once for many rows."""
_BUSY_SECONDS = 5.0
_VERIFIED = "verify-full"
"""The only `sslmode` in which libpq verifies both the certificate and the name of the server."""


@dataclass(frozen=True, slots=True)
class SqliteRelease:
    """The SQLite library of this Python."""

    version: str
    has_wal_reset_bug: bool
    """It is safe with one checkpointing connection, which is all we have; say so, and advise a newer one."""


def sqlite_release(version: tuple[int, ...] = sqlite3.sqlite_version_info) -> SqliteRelease:
    """Return which SQLite runs, and whether it has the WAL-reset bug (3.7.0 to 3.51.2)."""
    return SqliteRelease(".".join(str(n) for n in version), (3, 7, 0) <= version < WAL_RESET_BUG_FIXED)


def sqlite_writer(path: Path) -> Engine:
    """An engine with the one connection that writes to `path`; hold the file's lock (locking.py) before opening it.

    Its transactions begin with BEGIN IMMEDIATE. The connection may be used by one thread at a time only.
    """
    engine = _sqlite(lambda: sqlite3.connect(path, **_connect_arguments()), connections=1)

    @event.listens_for(engine, "connect")
    def configure(connection: sqlite3.Connection, _record: object) -> None:
        for pragma in (
            f"page_size={_PAGE_BYTES}",
            "journal_mode=WAL",
            "synchronous=FULL",
            "foreign_keys=ON",
            f"wal_autocheckpoint={_CHECKPOINT_PAGES}",
            f"journal_size_limit={_PAGE_BYTES * _CHECKPOINT_PAGES}",
            "secure_delete=FAST",  # a destroyed key's bytes are overwritten where they lay
            "cache_size=-16384",
            "trusted_schema=OFF",
        ):
            connection.execute(f"PRAGMA {pragma}").close()

    event.listen(engine, "begin", partial(Connection.exec_driver_sql, statement="BEGIN IMMEDIATE"))
    return engine


def sqlite_reader(path: Path, *, connections: int) -> Engine:
    """An engine whose connections open `path` read-only: they can neither write nor checkpoint."""
    uri = f"file:{quote(str(path.absolute()))}?mode=ro"
    engine = _sqlite(lambda: sqlite3.connect(uri, uri=True, **_connect_arguments()), connections=connections)

    @event.listens_for(engine, "connect")
    def configure(connection: sqlite3.Connection, _record: object) -> None:
        for pragma in ("query_only=ON", "trusted_schema=OFF"):
            connection.execute(f"PRAGMA {pragma}").close()

    event.listen(engine, "begin", partial(Connection.exec_driver_sql, statement="BEGIN"))
    return engine


def postgresql_url(text: str) -> URL:
    """Return SQLAlchemy's URL for a URL of its own, a URL of libpq with several hosts, or libpq's key=value form.

    Raises `StartRefused`, without the text, which may hold a password.
    """
    try:
        made = make_url(text)
    except (ArgumentError, ValueError):
        made = None
    if made is not None and made.host != "" and "," not in (made.host or ""):
        return made.set(drivername="postgresql+psycopg")
    try:
        given = conninfo_to_dict(text)
    except psycopg.Error:
        raise StartRefused(
            "database.url is neither postgresql://USER@HOST:PORT/DATABASE, with several hosts as HOST:PORT,HOST:PORT, nor "
            "libpq's form host=HOST port=PORT user=USER dbname=DATABASE"
        ) from None
    parts = {key: str(value) for key, value in given.items() if value is not None}
    hosts = parts.pop("host", "").split(",")
    ports = parts.pop("port", "").split(",")
    ports = ports * len(hosts) if len(ports) == 1 else ports
    if len(ports) != len(hosts):
        raise StartRefused(f"database.url has {len(hosts)} hosts and {len(ports)} ports")
    places = tuple(f"{host}:{port}" if port else host for host, port in zip(hosts, ports, strict=True) if host or port)
    return URL.create(
        "postgresql+psycopg",
        username=parts.pop("user", None),
        password=parts.pop("password", None),
        database=parts.pop("dbname", None),
        query=parts | ({"host": places} if places else {}),
    )


def primary_only(url: URL) -> dict[str, str]:
    """Return what tells libpq to connect only to a server that takes writes; nothing if the URL itself says which.

    A standby would answer reads with what was true when it fell behind, such as a list without the newest revocations.
    """
    return {} if "target_session_attrs" in url.query else {"target_session_attrs": "read-write"}


def refuse_unverified(text: str) -> None:
    """Refuse a URL with which libpq would not verify the server's certificate and name. Raises `StartRefused`."""
    url = postgresql_url(text).set(drivername="postgresql")
    given = conninfo_to_dict(url.render_as_string(hide_password=False))
    mode = given.get("sslmode") or os.environ.get("PGSSLMODE")
    # What a service file says stands above the environment.
    if mode != _VERIFIED or "service" in given:
        raise StartRefused(
            f"database.verify_tls is set, and the database's URL has {'a service' if 'service' in given else f'sslmode={mode}'}: "
            f"leave it out, or write sslmode={_VERIFIED}"
        )


def postgresql(
    url: str | URL,
    *,
    schema: str,
    application_name: str,
    connections: int,
    lock_timeout_ms: int = 4_000,
    statement_timeout_ms: int = 15_000,
    fresh_plans: bool = False,
    pooled: bool = False,
) -> Engine:
    """An engine for one service's schema; `url` as in SQLAlchemy or libpq (`postgresql://...`), the driver is psycopg 3.

    A transaction that waits for its client is ended after `statement_timeout_ms` too, so that a process that has
    stopped does not hold its locks.

    `fresh_plans` makes PostgreSQL plan a statement for what its tables hold now. By default it keeps the plan of a statement
    that it has seen a few times: made while a table is empty, that one reads all of it however much it holds later.

    `pooled` says that a pooler in transaction mode is in front: then nothing may outlive a transaction, so that each sets its own
    search path and time limits (one more round trip) and no statement is prepared.
    """
    settings = {
        "search_path": '"' + schema.replace('"', '""') + '"',
        "synchronous_commit": "on",
        "lock_timeout": str(lock_timeout_ms),
        "statement_timeout": str(statement_timeout_ms),
        "idle_in_transaction_session_timeout": str(statement_timeout_ms),
        "plan_cache_mode": "force_custom_plan" if fresh_plans else "auto",
    }
    session: dict[str, Any] = (
        {"prepare_threshold": None}
        if pooled
        else {"options": " ".join(f"-c {name}={_option(value)}" for name, value in settings.items())}
    )
    made = url.set(drivername="postgresql+psycopg") if isinstance(url, URL) else postgresql_url(url)
    engine = create_engine(
        made,
        isolation_level="READ COMMITTED",
        pool_size=connections,
        max_overflow=0,
        pool_timeout=5,
        pool_pre_ping=True,
        connect_args={
            **session,
            **({} if pooled else primary_only(made)),
            "application_name": application_name,
            "connect_timeout": 5,
            "keepalives_idle": 10,
            "keepalives_interval": 5,
            "keepalives_count": 3,
            "tcp_user_timeout": 20_000,
        },
    )
    engine.dialect.do_ping = _is_there  # type: ignore[method-assign, assignment]
    if pooled:
        begin = "SELECT " + ", ".join(f"set_config('{name}', '{value}', true)" for name, value in settings.items())
        event.listen(engine, "begin", partial(Connection.exec_driver_sql, statement=begin))
    return engine


def _is_there(connection: psycopg.Connection[Any]) -> bool:
    """Whether the server has left an idle connection open.

    A non-blocking read of the socket: the server says so before it closes one. SQLAlchemy's own check would cost a
    round trip for each read and write.
    """
    if connection.closed:
        return False
    heard = select.poll()
    heard.register(connection.fileno(), select.POLLIN)
    return not heard.poll(0)


def _option(value: str) -> str:
    return value.replace("\\", "\\\\").replace(" ", "\\ ")


def _connect_arguments() -> dict[str, Any]:
    # isolation_level=None: sqlite3 begins no transaction by itself; the "begin" listeners do.
    return {"isolation_level": None, "check_same_thread": False, "timeout": _BUSY_SECONDS, "cached_statements": 256}


def _sqlite(connect: Callable[[], sqlite3.Connection], *, connections: int) -> Engine:
    return create_engine(
        "sqlite+pysqlite://",
        creator=connect,
        poolclass=QueuePool,
        pool_size=connections,
        max_overflow=0,
        pool_timeout=5,
    )
