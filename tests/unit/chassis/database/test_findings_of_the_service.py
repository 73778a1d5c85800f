"""Findings that the service's own program reports to `keyreeve doctor`."""

from pathlib import Path

import pytest

from keyreeve_ca.settings import CaSettings
from keyreeve_chassis.database.engine import sqlite_release
from keyreeve_chassis.database.opening import look_at_sqlite


@pytest.fixture
def settings(tmp_path: Path) -> CaSettings:
    return CaSettings(state_directory=tmp_path)


@pytest.mark.parametrize("version", [(3, 40, 1), (3, 51, 2)])
def test_an_sqlite_with_the_wal_reset_bug_is_warned_of_with_what_to_do(
    settings: CaSettings, version: tuple[int, ...]
) -> None:
    [finding] = look_at_sqlite(settings, sqlite_release(version))
    assert finding.ok, "the service itself is safe"
    assert "can corrupt" in finding.message
    assert "3.51.3 or newer" in finding.fix


@pytest.mark.parametrize("version", [(3, 51, 3), (3, 53, 0)])
def test_an_sqlite_without_the_wal_reset_bug_is_fine(settings: CaSettings, version: tuple[int, ...]) -> None:
    [finding] = look_at_sqlite(settings, sqlite_release(version))
    assert (finding.ok, finding.fix) == (True, "")


def test_an_unused_sqlite_is_not_mentioned(tmp_path: Path) -> None:
    database = {"url": "postgresql://db.test/keyreeve"}
    settings = CaSettings.model_validate({"state_directory": tmp_path, "database": database})
    assert list(look_at_sqlite(settings, sqlite_release((3, 40, 1)))) == []
