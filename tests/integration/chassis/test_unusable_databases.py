"""Databases that can never be used end a start at once, in one line that says why."""

import uuid
from pathlib import Path

import pytest

from keyreeve_ca.store.schema import SCHEMA
from keyreeve_chassis.database.locking import DatabaseRefused
from keyreeve_chassis.database.opening import writing_database
from keyreeve_chassis.settings.sections import DatabaseServerSettings
from support.postgres import Server


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


def refusal(url: str, directory: Path) -> str:
    with pytest.raises(DatabaseRefused) as refused, writing_database(settings(url, directory), SCHEMA):
        pass
    return str(refused.value)


def test_a_database_or_user_that_does_not_exist_is_named(postgresql_server: Server, tmp_path: Path) -> None:
    assert "does not exist" in refusal(postgresql_server.url("no_such_database"), tmp_path)
    assert "does not exist" in refusal(
        postgresql_server.url("postgres").replace("keyreeve@", "nobody:hunter2@"), tmp_path
    )


def test_an_sql_ascii_database_is_refused(postgresql_server: Server, tmp_path: Path) -> None:
    name = f"ascii_{uuid.uuid4().hex}"
    postgresql_server.execute(f"CREATE DATABASE {name} ENCODING 'SQL_ASCII' TEMPLATE template0")
    assert "SQL_ASCII" in refusal(postgresql_server.url(name), tmp_path)
    postgresql_server.execute(f"DROP DATABASE {name}")


def test_a_url_of_no_known_form_is_refused_without_repeating_it(tmp_path: Path) -> None:
    told = refusal("hunter2 secret", tmp_path)
    assert "database.url is neither" in told
    assert "hunter2" not in told
