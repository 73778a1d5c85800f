"""Control planes of real processes: one shared by the tests that do not break it, and fresh ones."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.control_plane import ALL_SERVICES, ControlPlane, new_database, shared_control_plane
from support.migrated import run_directory


@pytest.fixture(scope="session")
def control_plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """A running control plane, of the CA alone, which the tests of this process share and do not stop."""
    made = ControlPlane(tmp_path_factory.mktemp("control_plane"))
    made.up()
    yield made
    made.down()


@pytest.fixture(scope="session")
def all_services() -> ControlPlane:
    """A running control plane with all services, which tests of all processes share and do not stop."""
    return shared_control_plane(run_directory())


@pytest.fixture
def own_control_plane(tmp_path: Path) -> Iterator[ControlPlane]:
    """A directory without a control plane; processes started in it are stopped afterwards."""
    made = ControlPlane(tmp_path)
    yield made
    made.down()


@pytest.fixture
def own_services(tmp_path: Path) -> Iterator[ControlPlane]:
    """The same for a control plane with all services."""
    made = ControlPlane(tmp_path, ALL_SERVICES)
    yield made
    made.down()


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest) -> str:
    return new_database(request)
