"""The CA's migrations on both databases: they produce the tables in the code, and a foreign version is refused."""

import threading
from dataclasses import replace
from pathlib import Path

import pytest
from alembic import command
from sqlalchemy import Engine, inspect, text

from keyreeve_ca.store.schema import SCHEMA
from keyreeve_chassis.database.engine import postgresql, sqlite_writer
from keyreeve_chassis.database.locking import DatabaseRefused
from keyreeve_chassis.schema.migrating import configuration, drift, upgrade
from keyreeve_chassis.schema.revisions import check_version, current_revision
from support.databases import CaDatabase
from support.postgres import Server


@pytest.fixture(params=["sqlite", "postgresql"])
def empty(request: pytest.FixtureRequest, tmp_path: Path):
    """An engine on a database without any table."""
    if request.param == "sqlite":
        engine = sqlite_writer(tmp_path / "empty.sqlite")
        yield engine
        engine.dispose()
    else:
        server: Server = request.getfixturevalue("postgresql_server")
        name = f"empty_{tmp_path.name}".replace("-", "_").lower()[:60]
        server.execute(f'CREATE DATABASE "{name}"')
        engine = _postgresql(server.url(name))
        yield engine
        engine.dispose()
        server.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


def _postgresql(url: str) -> Engine:
    return postgresql(url, schema=SCHEMA.name, application_name="test", connections=2)


def test_an_empty_database_is_refused_until_it_is_migrated(empty: Engine) -> None:
    with pytest.raises(DatabaseRefused, match="run the migrations"):
        check_version(empty, SCHEMA)
    upgrade(empty, SCHEMA)
    assert check_version(empty, SCHEMA) == SCHEMA.newest
    assert drift(empty, SCHEMA) == []


def test_migrating_twice_changes_nothing(empty: Engine) -> None:
    upgrade(empty, SCHEMA)
    upgrade(empty, SCHEMA)
    assert current_revision(empty, SCHEMA) == SCHEMA.newest


def test_the_migrations_lead_back_to_nothing(empty: Engine) -> None:
    upgrade(empty, SCHEMA)
    config = configuration(SCHEMA)
    with empty.connect() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "base")
        connection.commit()
    assert inspect(empty).get_table_names() == ["alembic_version"]


def test_a_difference_between_code_and_database_is_seen(ca_database: CaDatabase) -> None:
    database = ca_database.database()
    with database.engine.begin() as connection:
        connection.execute(text("ALTER TABLE control_plane ADD COLUMN surprise TEXT"))
    assert len(drift(database.engine, SCHEMA)) == 1


def test_a_database_outside_the_range_that_a_release_knows_is_refused(ca_database: CaDatabase) -> None:
    engine = ca_database.database().engine
    with pytest.raises(DatabaseRefused, match="a newer release"):
        check_version(engine, replace(SCHEMA, oldest=0, newest=0))
    with pytest.raises(DatabaseRefused, match="run its migrations"):
        check_version(engine, replace(SCHEMA, oldest=SCHEMA.newest + 1, newest=SCHEMA.newest + 2))


def test_two_replicas_that_migrate_at_the_same_time_run_one_after_the_other(postgresql_server: Server) -> None:
    name = "two_replicas"
    postgresql_server.execute(f"CREATE DATABASE {name}")
    engines = [_postgresql(postgresql_server.url(name)) for _ in range(3)]
    failures: list[BaseException] = []

    def migrate(engine: Engine) -> None:
        try:
            upgrade(engine, SCHEMA)
            check_version(engine, SCHEMA)
        except BaseException as failure:  # noqa: BLE001  # the thread's failures are the test's
            failures.append(failure)

    threads = [threading.Thread(target=migrate, args=(engine,)) for engine in engines]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for engine in engines:
        engine.dispose()
    postgresql_server.execute(f"DROP DATABASE {name} WITH (FORCE)")
    assert failures == []


def test_expanding_leaves_what_only_removes_for_a_later_run(postgresql_server: Server) -> None:
    name = "expanding"
    postgresql_server.execute(f"CREATE DATABASE {name}")
    engine = _postgresql(postgresql_server.url(name))
    removing = replace(SCHEMA, removing=2)
    try:
        for _ in range(2):
            upgrade(engine, removing, expand=True)
            assert current_revision(engine, SCHEMA) == SCHEMA.newest - 2
        upgrade(engine, removing)
        upgrade(engine, removing, expand=True)
        assert current_revision(engine, SCHEMA) == SCHEMA.newest
    finally:
        engine.dispose()
        postgresql_server.execute(f"DROP DATABASE {name} WITH (FORCE)")
