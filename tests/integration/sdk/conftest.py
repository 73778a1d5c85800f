"""A fake CA for each test, and the two forms of the client."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.fake_ca_server import FakeCa
from support.sdk_forms import FORMS, ClientForm


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[FakeCa]:
    with FakeCa(tmp_path).running() as running:
        yield running


@pytest.fixture(params=FORMS, ids=lambda form: form.name)
def form(request: pytest.FixtureRequest) -> ClientForm:
    chosen: ClientForm = request.param
    return chosen
