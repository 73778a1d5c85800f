"""Control planes of real processes: shared by the tests that do not break them, and fresh ones."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from support.control_plane import (
    ALL_SERVICES,
    CA_ALONE,
    ControlPlane,
    new_database,
    shared_control_plane,
    use_of,
)
from support.migrated import run_directory

_USE = pytest.StashKey[ExitStack]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Iterator[None]:
    if "control_plane" in getattr(item, "fixturenames", ()):
        with ExitStack() as stack:
            stack.enter_context(use_of(run_directory(), alone=item.get_closest_marker("alone") is not None))
            item.stash[_USE] = stack.pop_all()
    yield


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Iterator[None]:
    try:
        yield
    finally:
        if _USE in item.stash:
            item.stash[_USE].close()


@pytest.fixture(scope="session")
def control_plane() -> ControlPlane:
    """A running control plane, of the CA alone, which tests of all processes share and do not stop.

    A test that changes what others see of it, and changes it back, carries the mark `alone`.
    """
    return shared_control_plane(run_directory(), CA_ALONE)


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
