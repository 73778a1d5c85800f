"""Control planes of real processes: one shared by the tests that do not break it, and fresh ones."""

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.control_plane import ControlPlane
from support.postgres import Server


@pytest.fixture(scope="session")
def control_plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """A shared running control plane, which tests do not stop."""
    made = ControlPlane(tmp_path_factory.mktemp("control_plane"))
    made.up()
    yield made
    made.down()


@pytest.fixture
def own_control_plane(tmp_path: Path) -> Iterator[ControlPlane]:
    """A directory without a control plane; processes started in it are stopped afterwards."""
    made = ControlPlane(tmp_path)
    yield made
    made.down()


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest) -> str:
    """The URL of an empty database; for SQLite that of the control plane's own settings."""
    if request.param == "sqlite":
        return "sqlite:///ca.db"
    server: Server = request.getfixturevalue("postgresql_server")
    name = f"control_plane_{uuid.uuid4().hex}"
    server.execute(f"CREATE DATABASE {name}")
    return server.url(name)
