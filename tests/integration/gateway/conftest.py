"""Fixtures: the services behind the legacy commands in this process, over mutual TLS."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from support.legacy_stage import LegacyStage, running_stage


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[LegacyStage]:
    async with running_stage(tmp_path) as running:
        yield running
