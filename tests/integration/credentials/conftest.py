"""Settings of the credentials service on each database."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from keyreeve_credentials.settings import CredentialsSettings
from keyreeve_credentials.store.schema import SCHEMA
from support.service_in_process import InProcess, database_url
from support.vault import running_vault, vault_settings


@pytest.fixture(params=["sqlite", "postgresql"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> CredentialsSettings:
    url = database_url(request.param, lambda: request.getfixturevalue("postgresql_server"), SCHEMA)
    return vault_settings(tmp_path, url)


@pytest.fixture
async def vault_on_sqlite(tmp_path: Path) -> AsyncIterator[InProcess]:
    """A service on SQLite, for what does not depend on the database."""
    async with running_vault(vault_settings(tmp_path), tmp_path) as running:
        yield running
