"""One control plane of real processes for all end-to-end tests of a process that do not break it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.plane import Plane


@pytest.fixture(scope="session")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plane]:
    """A running control plane; tests leave it running."""
    made = Plane(tmp_path_factory.mktemp("plane"))
    made.up()
    yield made
    made.down()


@pytest.fixture
def own_plane(tmp_path: Path) -> Iterator[Plane]:
    """A directory without a control plane yet; whatever the test starts in it is stopped afterwards."""
    made = Plane(tmp_path)
    yield made
    made.down()
