"""Removal of what a service has made in its database: nothing else, and nothing of another control plane."""

import json
from pathlib import Path

import pytest
from pydantic import SecretStr
from sqlalchemy import create_engine, inspect

from keyreeve.errors import StoreUnavailable, WrongDatabase
from keyreeve_chassis.database.engine import postgresql_url
from keyreeve_chassis.processes.lifecycle import private_directory
from keyreeve_chassis.settings.sections import DatabaseSettings
from keyreeve_membership.app import STORAGE
from keyreeve_membership.settings import MembershipSettings
from support.membership import fresh_url, membership_settings


async def made(directory: Path, url: str) -> MembershipSettings:
    """Settings of a service that has been started once."""
    settings = membership_settings(directory, url)
    private_directory(settings.state_directory)
    async with STORAGE.open(settings, now=lambda: 1_900_000_000, process="one/solo/1") as opened:
        for job in opened.jobs:
            job.close()
    return settings


async def test_the_schema_in_postgresql_is_removed_and_nothing_else(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    url = fresh_url("postgresql", request)
    engine = create_engine(postgresql_url(url))
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE of_others (id int)")
    settings = await made(tmp_path / "one", url)
    assert "keyreeve_membership" in inspect(engine).get_schema_names()
    [told] = STORAGE.remove(settings)
    assert told.startswith("the schema keyreeve_membership of PostgreSQL ")
    assert "keyreeve_membership" not in inspect(engine).get_schema_names()
    assert inspect(engine).has_table("of_others")
    assert STORAGE.remove(settings) == []
    engine.dispose()


async def test_a_file_elsewhere_is_removed(tmp_path: Path) -> None:
    settings = await made(tmp_path / "one", f"sqlite:///{tmp_path}/elsewhere.db")
    (tmp_path / "else").touch()
    assert STORAGE.remove(settings) == [f"{tmp_path}/elsewhere.db"]
    assert not (tmp_path / "elsewhere.db").exists()


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
async def test_the_database_of_another_control_plane_is_spared(
    database: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    url = fresh_url("postgresql", request) if database == "postgresql" else f"sqlite:///{tmp_path}/elsewhere.db"
    settings = await made(tmp_path / "one", url)
    note = settings.state_directory / "database.json"
    note.write_text(json.dumps(json.loads(note.read_text()) | {"id": "another"}))
    with pytest.raises(WrongDatabase):
        STORAGE.remove(settings)


async def test_a_database_that_is_away_is_named(tmp_path: Path) -> None:
    settings = await made(tmp_path / "one", f"sqlite:///{tmp_path}/elsewhere.db")
    away = DatabaseSettings(url=SecretStr(f"postgresql://keyreeve@/plane?host={tmp_path}/nowhere"))
    with pytest.raises(StoreUnavailable, match="plane does not answer"):
        STORAGE.remove(settings.model_copy(update={"database": away}))
