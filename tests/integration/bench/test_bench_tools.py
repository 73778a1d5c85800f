"""The programs beside the bench, in short: they run on both databases and count what they did. Their speed is no matter."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PROGRAMS = Path(__file__).parents[3] / "bench"

pytestmark = [pytest.mark.faults, pytest.mark.parametrize("database", ["sqlite", "postgresql"])]


def run(program: str, *arguments: object) -> Any:
    done = subprocess.run(
        [sys.executable, str(PROGRAMS / program), *map(str, arguments)], capture_output=True, timeout=110, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    return json.loads(done.stdout)


def test_certificates_are_revoked_while_others_are_signed(database: str) -> None:
    short = ("--certificates", 6000, "--revoke", 600, "--seconds", 1, "--rounds", 2, "--rate", 20)
    report = run("revoke_many.py", *short, "--database", database)
    assert report["failed_calls"] == []
    assert report["revoked"] == report["entries"] == 600
    assert report["alone"]["calls"] > 0


def test_the_cost_of_the_audit_is_measured(database: str) -> None:
    report = run("audit_cost.py", "--groups", 5, "--database", database)
    assert [row["requests"] for row in report["signing"]] == [1, 8, 32]
    assert all(row["us_per_group"] > 0 for row in report["alone"])
