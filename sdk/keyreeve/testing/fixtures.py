"""The certificate authority as a pytest fixture.

`from keyreeve.testing.fixtures import keyreeve_ca` in a conftest.py.
"""

from collections.abc import Iterator

import pytest

from keyreeve.context import Context
from keyreeve.testing import local_ca


@pytest.fixture(scope="session")
def keyreeve_ca() -> Iterator[Context]:
    """The context of an admin of a new control plane, one for the test session."""
    with local_ca() as context:
        yield context
