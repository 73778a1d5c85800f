"""Settings of the credentials service on each database."""

from pathlib import Path

import pytest

from keyreeve_credentials.settings import CredentialsSettings
from support.service_in_process import database_url
from support.vault import vault_settings


@pytest.fixture(params=["sqlite", "postgresql"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> CredentialsSettings:
    url = database_url(request.param, lambda: request.getfixturevalue("postgresql_server"), "credentials")
    return vault_settings(tmp_path, url)
