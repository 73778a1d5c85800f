"""Short runs of the scenarios that start their own control planes; speed is not checked."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from keyreeve_bench.control_planes import DATABASES
from keyreeve_bench.figures import figures
from keyreeve_bench.standard import SCENARIOS

SHORT = ("--duration", "1", "--runs", "1", "--certificates", "2000", "--filled", "20000")

pytestmark = [pytest.mark.faults, pytest.mark.thorough, pytest.mark.timeout(660)]


def measured(scenario: str, database: str, reports: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "keyreeve_bench.standard", *SHORT, "--only", scenario, "--database", database]
    done = subprocess.run([*command, "--reports", str(reports)], capture_output=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr.decode() + done.stdout.decode()
    report: dict[str, Any] = json.loads((reports / f"{scenario}-{database}.json").read_text())
    return report


@pytest.mark.parametrize("database", DATABASES)
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_scenario_runs_to_its_end_and_has_figures(scenario: str, database: str, tmp_path: Path) -> None:
    report = measured(scenario, database, tmp_path)
    if why := report.get("skipped"):
        pytest.skip(why)
    assert report["figures"]
    assert all(
        one["value"] is not None for one in report["figures"] if one["met"] is None and "refusals" not in one["name"]
    )
    assert f"| {scenario} | {database} |" in figures({f"{scenario}-{database}": report})


@pytest.mark.parametrize("database", DATABASES)
def test_the_plot_is_written_beside_the_reports(database: str, tmp_path: Path) -> None:
    report = measured("plot", database, tmp_path)
    assert len(report["sweep"]) > 5
    assert b"<svg" in (tmp_path / f"load-{database}.svg").read_bytes()


def test_what_legacy_verbs_cost_is_measured_by_each_way_in() -> None:
    command = [sys.executable, "-m", "keyreeve_bench.verbs", "--times", "2"]
    done = subprocess.run(command, capture_output=True, timeout=600, check=False)
    report: dict[str, Any] = json.loads(done.stdout)
    assert {verb: len(ways) for verb, ways in report["medians_ms"].items()} == {
        "mmp pki list": 5,
        "tarantella array list": 5,
        "tarantella passcache new": 5,
    }
    assert len(report["figures"]) == 3 * 4
