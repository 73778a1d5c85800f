"""PostgreSQL ends what takes too long: statements, waits for locks, and transactions whose client has stopped."""

import uuid
from collections.abc import Iterator

import pytest
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError, OperationalError

from keyreeve_chassis.database.engine import postgresql
from support.postgres import Server
from support.waiting import wait_for


@pytest.fixture(params=[False, True], ids=["direct", "pooled"])
def engine(request: pytest.FixtureRequest, postgresql_server: Server) -> Iterator[Engine]:
    name = f"limits_{uuid.uuid4().hex}"
    postgresql_server.execute(f"CREATE DATABASE {name}")
    made = postgresql(
        postgresql_server.url(name),
        schema="public",
        application_name="test",
        connections=2,
        lock_timeout_ms=50,
        statement_timeout_ms=150,
        pooled=request.param,
    )
    yield made
    made.dispose()
    postgresql_server.execute(f"DROP DATABASE {name} WITH (FORCE)")


def test_a_statement_ends(engine: Engine) -> None:
    with engine.begin() as connection, pytest.raises(OperationalError, match="statement timeout"):
        connection.execute(text("SELECT pg_sleep(60)"))


def test_a_wait_for_a_lock_ends_before_that(engine: Engine) -> None:
    with engine.begin() as first, engine.begin() as second:
        first.execute(text("SELECT pg_advisory_xact_lock(1)"))
        with pytest.raises(OperationalError, match="lock timeout"):
            second.execute(text("SELECT pg_advisory_xact_lock(1)"))


def test_a_transaction_of_a_client_that_has_stopped_ends_and_its_locks_with_it(engine: Engine) -> None:
    def is_locked(other: Connection) -> bool:
        asked = text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND database = "
                     "(SELECT oid FROM pg_database WHERE datname = current_database())")  # fmt: skip
        with other.begin():
            return bool(other.execute(asked).scalar())

    stopped = engine.connect()
    stopped.execute(text("SELECT pg_advisory_xact_lock(1)"))
    with engine.connect() as other:
        assert is_locked(other)
        wait_for("its lock is free", lambda: not is_locked(other))
    with pytest.raises(DBAPIError, match="idle-in-transaction timeout"):
        stopped.execute(text("SELECT 1"))
    stopped.invalidate()
    stopped.close()
