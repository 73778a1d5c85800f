"""The credentials service in the test's event loop, on SQLite or PostgreSQL."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from keyreeve_chassis.settings.sections import DatabaseSettings
from keyreeve_chassis.settings.serving import ServingSettings
from keyreeve_credentials.app import SPEC, STORAGE
from keyreeve_credentials.settings import CredentialsSettings
from keyreeve_credentials.store.schema import SCHEMA
from support.peer_certificates import TRUST_DOMAIN
from support.service_in_process import InProcess, in_process, migrate_file

BILL = "o=Indigo/cn=Bill"
PRAGUE = ".../_dns/prague.example.com"


def vault_settings(directory: Path, url: str = "sqlite:///credentials.db", **more: Any) -> CredentialsSettings:
    """Settings of a service whose state is in a directory."""
    return CredentialsSettings(
        trust_domain=TRUST_DOMAIN,
        state_directory=directory / "state",
        database=DatabaseSettings(url=SecretStr(url)),
        listen=ServingSettings(health_port=None),
        **more,
    )


@asynccontextmanager
async def running_vault(settings: CredentialsSettings, directory: Path, **more: Any) -> AsyncIterator[InProcess]:
    """The service until the context is left."""
    migrate_file(settings, SCHEMA)
    async with in_process(SPEC, STORAGE, settings, directory, **more) as running:
        yield running
