"""One set of the product's files for all programs, made by the control plane that the tests share."""

import pytest

from support.control_plane import ControlPlane
from support.real_servers import Files


@pytest.fixture(scope="session")
def files(control_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Files:
    """Clients and servers, good and revoked, roots and CRLs."""
    return Files(control_plane, tmp_path_factory.mktemp("servers")).make()
