"""Scenarios of `make bench`: their figures and their tools."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from keyreeve.errors import CsrMalformed, CsrSignatureInvalid
from keyreeve_bench import corpus
from keyreeve_bench.figures import figures
from keyreeve_bench.recording import Counts, Tally
from keyreeve_bench.scenarios import bad_input, memory, overload, slow_fsync
from keyreeve_bench.scenarios.memory import Sample
from keyreeve_bench.scenarios.scenario import Figure, Place, scenario_report, text_of
from keyreeve_bench.standard import SCENARIOS
from keyreeve_ca.requests.csr import check_possession, read_csr
from support.programs import needs

NOW = 1_800_000_000


def place(directory: Path) -> Place:
    return Place("sqlite", directory, directory, 1.0, 1, 1)


def tally(*milliseconds: int, failed: int = 0) -> Tally:
    counts = Counts(1.0)
    for one in milliseconds:
        counts.answered(1, one / 1000, 0.0)
    for _ in range(failed):
        counts.failed("UNAVAILABLE", "", 1, 0.1)
    return Tally.of(1.0, [counts.to_document(0)])


@pytest.mark.parametrize(
    ("figure", "target", "met"),
    [
        (Figure("a", 3.0), "", None),
        (Figure("a", 3.0, "ms", at_most=3.0), "<= 3 ms", True),
        (Figure("a", 3.1, at_most=3.0), "<= 3", False),
        (Figure("a", 0.9, at_least=0.9), ">= 0.9", True),
        (Figure("a", None, at_most=3.0), "<= 3", False),
        (Figure("a", 0.0, at_most=0.0), "<= 0", True),
    ],
)
def test_a_figure_has_a_target_and_whether_it_is_met(figure: Figure, target: str, met: bool | None) -> None:
    assert (figure.target, figure.met) == (target, met)


def test_calls_have_recovered_when_two_consecutive_slices_are_as_before() -> None:
    before, slow, good, none = tally(5, 5), tally(50), tally(9), tally()
    assert overload.normal_after(before, [good, good]) == 0.5
    assert overload.normal_after(before, [slow, good, slow, none, good, good]) == 2.5
    assert overload.normal_after(before, [slow, tally(5, failed=1), slow]) is None


def test_growth_is_a_slope_over_certificates() -> None:
    samples = [Sample(n * 1_000_000, 0.0, 300.0 + 2 * n) for n in range(4)]
    assert memory.slope_per_million(samples) == 2.0
    assert memory.slope_per_million(samples[:1]) is None


def test_bad_requests_are_bad_in_three_ways(tmp_path: Path) -> None:
    bad_input.write_bad(tmp_path / "bad", "bench.localhost")
    garbage, forged, reserved = corpus.load(tmp_path / "bad")[:3]
    with pytest.raises(CsrMalformed):
        read_csr(garbage)
    with pytest.raises(CsrSignatureInvalid):
        check_possession(read_csr(forged))
    check_possession(read_csr(reserved))


@needs("cc")
def test_a_preloaded_library_makes_every_fsync_slower(tmp_path: Path) -> None:
    library = slow_fsync.compiled(tmp_path)
    code = """
import os, sys, time
with open(sys.argv[1], "wb") as file:
    began = time.monotonic()
    os.fsync(file.fileno())
    os.fdatasync(file.fileno())
    print(time.monotonic() - began)
"""
    environment = os.environ | {"LD_PRELOAD": str(library), "BENCH_FSYNC_US": "40000"}
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "f"], env=environment, capture_output=True, check=True
    )
    assert float(done.stdout) >= 0.08


def test_without_a_compiler_the_scenario_is_skipped_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    report = scenario_report("slow-fsync", place(tmp_path), SCENARIOS["slow-fsync"])
    assert report["ok"]
    assert "no `cc`" in text_of(report)
    assert "no `cc`" in figures({"slow-fsync-sqlite": report})


def test_figures_are_tables_of_what_was_measured_wanted_and_held(tmp_path: Path) -> None:
    made = [Figure("p99 beside / alone", 3.5, at_most=3.0), Figure("p99 alone", 12.345, "ms")]
    report = scenario_report("fairness", place(tmp_path), lambda _: (made, {"forms": {}}))
    failed = {
        "scenario": "memory",
        "database": {"kind": "postgresql"},
        "ok": False,
        "error": "failed: a|b",
        "figures": [],
    }
    text = figures({"fairness-sqlite": report, "memory-postgresql": failed})
    assert "| fairness | sqlite | p99 beside / alone | 3.50 | <= 3 | **no** |" in text
    assert "| fairness | sqlite | p99 alone | 12.3 ms |  |  |" in text
    assert "| memory | postgresql | failed: a\\|b |  |  | no |" in text
    assert f"{os.cpu_count()} cores" in text
