"""Databases that can never be used end a start at once, in one line that says why."""

import uuid
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from keyreeve_ca.store.schema import SCHEMA
from keyreeve_chassis.database.engine import postgresql
from keyreeve_chassis.database.opening import place_of, writing_database
from keyreeve_chassis.database.transactions import Database, ServerTakesNoWrites
from keyreeve_chassis.processes.refusals import StartRefused
from keyreeve_chassis.settings.sections import DatabaseServerSettings
from support.postgres import Server, standby_server


def settings(url: str, directory: Path) -> DatabaseServerSettings:
    return DatabaseServerSettings.model_construct(
        **DatabaseServerSettings.model_validate(
            {
                "trust_domain": "example.test",
                "state_directory": str(directory),
                "instance": "one",
                "database": {"url": url},
            }
        ).__dict__
    )


@pytest.fixture(scope="module")
def standby() -> Iterator[Server]:
    """A standby, on which the user `careful` needs the password `right` and the user `keyreeve` none."""
    with standby_server({"careful": "right"}) as server:
        yield server


def refusal(url: str, directory: Path) -> str:
    with pytest.raises(StartRefused) as refused, writing_database(settings(url, directory), SCHEMA):
        pass
    return str(refused.value)


def test_a_database_or_user_that_does_not_exist_is_named(postgresql_server: Server, tmp_path: Path) -> None:
    assert "does not exist" in refusal(postgresql_server.url("no_such_database"), tmp_path)
    assert "does not exist" in refusal(
        postgresql_server.url("postgres").replace("keyreeve@", "nobody:hunter2@"), tmp_path
    )


def test_a_user_that_may_not_log_in_or_connect_and_options_that_libpq_does_not_know_are_named(
    postgresql_server: Server, tmp_path: Path
) -> None:
    name = f"closed_{uuid.uuid4().hex}"
    for statement in (
        f"CREATE ROLE {name}_out NOLOGIN",
        f"CREATE ROLE {name}_in LOGIN",
        f"CREATE DATABASE {name}",
        f"REVOKE CONNECT ON DATABASE {name} FROM PUBLIC",
    ):
        postgresql_server.execute(statement)
    url = postgresql_server.url(name)
    assert "not permitted to log in" in refusal(url.replace("keyreeve@", f"{name}_out@"), tmp_path)
    assert "permission denied for database" in refusal(url.replace("keyreeve@", f"{name}_in@"), tmp_path)
    option = "&" if "?" in url else "?"
    assert "invalid sslmode value" in refusal(f"{url}{option}sslmode=perhaps", tmp_path)
    assert "invalid connection option" in refusal(f"{url}{option}nonsense=1", tmp_path)
    for statement in (f"DROP DATABASE {name}", f"DROP ROLE {name}_in", f"DROP ROLE {name}_out"):
        postgresql_server.execute(statement)


def test_an_sql_ascii_database_is_refused(postgresql_server: Server, tmp_path: Path) -> None:
    name = f"ascii_{uuid.uuid4().hex}"
    postgresql_server.execute(f"CREATE DATABASE {name} ENCODING 'SQL_ASCII' TEMPLATE template0")
    assert "SQL_ASCII" in refusal(postgresql_server.url(name), tmp_path)
    postgresql_server.execute(f"DROP DATABASE {name}")


def test_a_wrong_or_missing_password_is_named_and_not_repeated(standby: Server, tmp_path: Path) -> None:
    as_careful = standby.url("postgres").replace("keyreeve@", "careful:hunter2@")
    told = refusal(as_careful, tmp_path)
    assert "password authentication failed" in told
    assert "hunter2" not in told
    assert "no password supplied" in refusal(as_careful.replace(":hunter2", ""), tmp_path)
    # The right one comes as far as the state of the server.
    assert "standby" in refusal(as_careful.replace("hunter2", "right"), tmp_path)


def test_a_standby_is_refused(standby: Server, tmp_path: Path) -> None:
    assert "is a standby, which takes no writes" in refusal(standby.url("postgres"), tmp_path)


def test_of_several_hosts_the_primary_is_taken(standby: Server, postgresql_server: Server, tmp_path: Path) -> None:
    user = "keyreeve"
    hosts = (standby.directory, postgresql_server.directory)
    for url in (
        f"host={hosts[0]},{hosts[1]} user={user} dbname=postgres",
        f"postgresql://{user}@/postgres?host={hosts[0]},{hosts[1]}&target_session_attrs=read-write",
        f"postgresql://{user}@/postgres?host={hosts[0]}&host={hosts[1]}&target_session_attrs=read-write",
        f"host={hosts[0]},{hosts[1]} user={user} dbname=postgres target_session_attrs=read-write",
    ):
        with (
            writing_database(settings(url, tmp_path), SCHEMA) as database,
            database.engine.connect() as connection,
        ):
            assert connection.execute(text("SELECT pg_is_in_recovery()")).scalar_one() is False


def test_no_host_that_takes_writes_is_waited_for(standby: Server, tmp_path: Path) -> None:
    # The standby may be promoted any moment, so this is no refusal.
    url = f"postgresql://keyreeve@/postgres?host={standby.directory}&target_session_attrs=read-write"
    with (
        writing_database(settings(url, tmp_path), SCHEMA) as database,
        pytest.raises(OperationalError, match="read-only"),
        database.engine.connect(),
    ):
        pass


def test_a_new_connection_never_reads_from_a_standby(standby: Server) -> None:
    engine = postgresql(standby.url("postgres"), schema="public", application_name="test", connections=1)
    with closing(Database(engine, service="inventory", threads=1)) as database, pytest.raises(ServerTakesNoWrites):
        database.read_here(lambda connection: connection.execute(text("SELECT 1")).scalar())


def test_a_url_of_no_known_form_is_refused_without_repeating_it(tmp_path: Path) -> None:
    told = refusal("hunter2 secret", tmp_path)
    with pytest.raises(StartRefused):
        place_of(settings("hunter2 secret", tmp_path))
    assert "database.url is neither" in told
    assert "hunter2" not in told
