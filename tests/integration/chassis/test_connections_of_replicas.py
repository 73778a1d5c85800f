"""Pools are sized by what a real server allows, and `keyreeve doctor` says when replicas do not fit."""

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from keyreeve_chassis.database.opening import look_at_connections, writing_database
from keyreeve_chassis.settings.pools import ServerLimits
from keyreeve_chassis.settings.sections import DatabaseServerSettings
from keyreeve_membership.app import SPEC, STORAGE
from keyreeve_membership.settings import MembershipSettings
from keyreeve_membership.store.schema import SCHEMA
from support.postgres import Server


@pytest.fixture(scope="module")
def url(postgresql_server: Server) -> Iterator[str]:
    """A database whose role may have six connections."""
    role = f"limited_{uuid.uuid4().hex}"
    postgresql_server.execute(f"CREATE ROLE {role} LOGIN CONNECTION LIMIT 6")
    postgresql_server.execute(f"CREATE DATABASE {role} OWNER {role}")
    yield postgresql_server.url(role).replace("keyreeve@", f"{role}@")
    postgresql_server.execute(f"DROP DATABASE {role}")
    postgresql_server.execute(f"DROP ROLE {role}")


def settings(url: str, directory: Path, **database: int) -> MembershipSettings:
    return MembershipSettings.model_validate({"state_directory": str(directory), "database": {"url": url, **database}})


@pytest.mark.parametrize(("database", "size"), [({}, 4), ({"replicas": 2}, 1), ({"pool": 3}, 3)])
def test_a_pool_is_as_large_as_the_role_allows(url: str, tmp_path: Path, database: dict[str, int], size: int) -> None:
    with writing_database(settings(url, tmp_path, **database), SCHEMA) as opened:
        assert opened.engine.pool.size() == size  # type: ignore[attr-defined]


def findings(found: DatabaseServerSettings) -> dict[str, tuple[bool, str, str]]:
    return {one.check: (one.ok, one.message, one.fix) for one in SPEC.look(found)}


def test_doctor_says_that_replicas_do_not_fit(url: str, tmp_path: Path) -> None:
    STORAGE.migrate(settings(url, tmp_path))
    ok, message, fix = findings(settings(url, tmp_path))["connections"]
    assert (ok, fix) == (True, ""), message
    ok, message, fix = findings(settings(url, tmp_path, replicas=2, pool=2))["connections"]
    assert not ok
    assert "3 replicas at once x 1 pools of 2 and 2 more take up to 12 of 6 connections" in message
    assert "max_connections" in fix


def test_doctor_warns_when_other_services_get_too_few(tmp_path: Path) -> None:
    plan = settings("postgresql:///x", tmp_path, replicas=4).connection_plan
    found = look_at_connections(plan, ServerLimits(40))
    assert found.ok
    assert found.fix
