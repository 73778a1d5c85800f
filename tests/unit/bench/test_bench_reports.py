"""Reports of a benchmark: limits, thresholds, checks, the table and the plot."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from keyreeve.cli.supervision.state_directory import StateDirectory
from keyreeve.errors import FieldInvalid
from keyreeve_bench.figures import figures
from keyreeve_bench.ledger import LedgerUnreadable, SqliteLedger, compare, open_ledger
from keyreeve_bench.overloading import normal_after, steps
from keyreeve_bench.plot import Point, write_plot
from keyreeve_bench.report import combined_bound, ratios, spread
from keyreeve_bench.settings import BenchSettings
from keyreeve_bench.table import table
from keyreeve_bench.thresholds import Threshold

REPORT: dict[str, Any] = {
    "kind": "unary",
    "certificates_per_second": {"median": 1000.0, "min": 900.0, "max": 1100.0},
    "latency_ms": {"p50": 5.0, "p90": 8.0, "p99": 20.0, "p999": 30.0, "max": 40.0, "mean": 6.0},
    "signing_limit_per_second": 4000.0,
    "echo_rate_per_second": 2000.0,
    "combined_bound_per_second": 1333.3,
    "ratios": {"to_signing_limit": 0.25, "to_echo_rate": 0.5, "to_combined_bound": 0.75, "to_cfssl": 2.0},
    "errors": [{"status": "UNAVAILABLE", "reason": "STORE_UNAVAILABLE", "count": 3}],
    "cpu_us_per_certificate": {"server": 150.0, "database": None, "client": 50.0},
    "rss_bytes": {"server": 300_000_000, "database": None, "client": 100_000_000},
    "pss_bytes": {"server": 200_000_000, "database": None, "client": None},
    "fsync_us": None,
    "database": {"kind": None, "rows_before": None, "note": "nothing beside the context"},
    "reads_ms": {"get_certificate": {"p50": 1.5}, "list_page": None},
    "overload": None,
    "runs": [{}],
    "baselines": {
        "cfssl": {
            "certificates_per_second": {"median": 500.0, "min": 1.0, "max": 2.0},
            "latency_ms": {"p99": 9.0},
            "settings": "as it is",
        }
    },
    "checks": [{"check": "ledger", "ok": False, "message": "1 missing"}],
    "limits": {"echo_client": "grpcio 1.2.3, 4 processes, 64 in flight"},
    "requirements": [{"require": "unary>=0.8combined-bound", "met": False, "measured": 1.0, "target": 2.0}],
}


@pytest.mark.parametrize(
    ("text", "met"),
    [
        ("unary>=1000", True),
        ("unary>1000", False),
        ("unary >= 0.75 combined-bound", True),
        ("unary>=0.8combined-bound", False),
        ("unary>=0.25signing-limit", True),
        ("unary>=0.6echo-rate", False),
        ("unary>=1.8cfssl", True),
        ("p99<=20ms", True),
        ("p99<=3mean", False),
        ("p999<=5mean", True),
        ("errors<=0", False),
        ("rss<=400MB", True),
        ("rss<=299MB", False),
        ("pss<=200MB", True),
        ("pss<=199MB", False),
        ("server<=100us", False),
    ],
)
def test_a_threshold_is_compared_with_the_measured_value(text: str, met: bool) -> None:
    assert Threshold.parse(text).check(REPORT)["met"] is met


@pytest.mark.parametrize(
    "text",
    [
        "",
        "unary",
        "unary>=echo-rate",
        "unary=1",
        "fast>=1",
        "p99<=1",
        "p99<=1echo-rate",
        "unary>=1ms",
        "unary>=1bound",
        "rss<=1GB",
        "errors<=1signing-limit",
    ],
)
def test_a_malformed_threshold_is_refused(text: str) -> None:
    with pytest.raises(FieldInvalid, match="threshold"):
        Threshold.parse(text)


@pytest.mark.parametrize("text", ["batch>=1", "database<=1us", "unary>=1step-ca"])
def test_a_threshold_on_a_value_that_was_not_measured_is_refused(text: str) -> None:
    with pytest.raises(FieldInvalid):
        Threshold.parse(text).check(REPORT)


def test_the_combined_bound_is_transport_and_cryptography_in_sequence() -> None:
    assert combined_bound(2000, 2000) == 1000
    assert combined_bound(0, 2000) == 0


def test_ratios_are_to_the_limits_and_to_each_baseline() -> None:
    baselines = {"cfssl": {"certificates_per_second": {"median": 50.0}}}
    found = ratios(100.0, 400.0, 0.0, baselines)
    assert found == {"to_signing_limit": 0.25, "to_echo_rate": None, "to_combined_bound": None, "to_cfssl": 2.0}


def test_the_spread_of_runs() -> None:
    assert spread([3.0, 1.0, 2.0]) == {"median": 2.0, "min": 1.0, "max": 3.0}
    assert spread([]) == {"median": 0.0, "min": 0.0, "max": 0.0}


def test_the_table_shows_failures_and_unknown_values() -> None:
    text = table(REPORT)
    lines = {line.split("  ")[0]: line for line in text.splitlines()}
    assert "3 UNAVAILABLE STORE_UNAVAILABLE" in lines["errors"]
    assert "FAILED" in lines["check: ledger"]
    assert "FAILED" in lines["require unary>=0.8combined-bound"]
    assert "2.00 cfssl" in lines["of the limits"]
    assert "(echo by grpcio 1.2.3, 4 processes, 64 in flight)" in lines["limits, per s"]
    assert "nothing beside the context" in lines["ledger"]
    assert "p50 1.50" in lines["get certificate, ms"]
    assert "server 200" in lines["memory (PSS), MB"]
    assert "list page, ms" not in lines
    assert "database -" in lines["CPU, us/certificate"]


@pytest.mark.parametrize(
    ("stored", "unknown", "holds"),
    [
        ([1, 2, 3], 0, True),
        ([1, 2], 9, False),
        ([1, 2, 3, 4], 0, False),
        ([1, 2, 3, 4], 1, True),
        ([1, 2, 3, 3], 9, False),
    ],
)
def test_a_ledger_holds_what_was_acknowledged_and_at_most_what_lost_its_answer(
    stored: list[int], unknown: int, holds: bool
) -> None:
    serials = b"".join(n.to_bytes(16) for n in (1, 2, 3))
    assert compare(serials, [n.to_bytes(16) for n in stored]).holds(unknown) is holds


def test_a_serial_number_that_two_callers_were_given_is_found() -> None:
    assert not compare(bytes(32), [bytes(16)]).holds(9)


def test_a_local_ledger_is_read_as_it_was_configured(tmp_path: Path) -> None:
    state_directory = StateDirectory.at(tmp_path)
    state_directory.config("ca").write_text(f"state_directory: {tmp_path}\ndatabase:\n  url: sqlite:///ca.db\n")
    with closing(sqlite3.connect(tmp_path / "ca.db")) as connection, connection:
        connection.execute(
            "CREATE TABLE certificates (serial BLOB, request_id TEXT, profile_name TEXT, issued_at INTEGER)"
        )
        rows = [(b"a", "x-1", "server", 10), (b"b", "x-2", "server", 20), (b"c", "x-3", "client", 20)]
        connection.executemany("INSERT INTO certificates VALUES (?, ?, ?, ?)", rows)
    ledger = open_ledger(state_directory, None)
    assert isinstance(ledger, SqliteLedger)
    assert ledger.rows() == 3
    assert list(ledger.issued("server", 15)) == [(b"b", "x-2")]


@pytest.mark.parametrize("url", [None, "mysql://example.test/x", "sqlite:///not-there.db"])
def test_a_ledger_that_cannot_be_read_is_named(tmp_path: Path, url: str | None) -> None:
    with pytest.raises(LedgerUnreadable):
        open_ledger(StateDirectory.at(tmp_path), url)


def test_overload_is_three_times_as_much_between_two_normal_stretches() -> None:
    one_by_one = steps(BenchSettings(overload=30.0, in_flight=64), 1000.0)
    assert [(step.in_flight, step.rate) for step in one_by_one] == [(64, None), (192, None), (64, None)]
    in_batches = steps(BenchSettings(overload=30.0, in_flight=8, batch=100), 1000.0)
    assert in_batches[1].rate == 30.0


def test_the_service_is_back_to_normal_in_the_first_second_that_is_as_good_as_before() -> None:
    assert normal_after([10, 80, 95, 100], 100.0) == 2
    assert normal_after([10, 20], 100.0) is None


def test_the_picture_is_svg_that_loads_nothing(tmp_path: Path) -> None:
    points = [Point(100, 100, 1, 3, 0), Point(200, 150, 9, 80, 0.1)]
    write_plot(tmp_path / "plot.svg", points, "unary")
    root = ET.parse(tmp_path / "plot.svg").getroot()
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    links = [value for node in root.iter() for name, value in node.attrib.items() if name.endswith("href")]
    assert [link for link in links if not link.startswith("#")] == []


@pytest.mark.parametrize(
    "changes",
    [
        {"batch": 0},
        {"batch": 101},
        {"keys": "dsa"},
        {"client": "sdk", "batch": 2},
        {"compare": ["none"]},
        {"rate": 0},
        {"in_flight": 0},
        {"duration": 0},
        {"overload": 0},
        {"client": "sdk", "repeat": True},
    ],
)
def test_settings_that_make_no_sense_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(FieldInvalid):
        BenchSettings.from_document(changes)


def test_settings_survive_the_way_to_another_process() -> None:
    settings = BenchSettings(batch=100, compare=("cfssl",), require=("batch>=1",), overload=3.0)
    assert BenchSettings.from_document(settings.to_document()) == settings


def test_the_figures_of_calls_are_a_table_with_the_limits_beside_them() -> None:
    report = REPORT | {
        "limits": {"signing_limit_per_second": [4000.0, 3000.0], "echo_rate_per_second": [2000.0]},
        "settings": {"batch": 1},
        "pss_bytes": {"server": 200_000_000},
        "overload": {
            "goodput_to_capacity": 0.9,
            "refused": 0,
            "refusals_ms": {"p50": 0.0, "p99": 0.0},
            "normal_after_seconds": None,
        },
    }
    text = figures({"unary-sqlite": report})
    row = next(line for line in text.splitlines() if line.startswith("| unary | sqlite | 1,000"))
    assert (
        "1,000 [900-1,100] | 4,000 | 2,000 | 1,333 | 0.250 / 0.500 / 0.750 | 5.0 / 20.0 / 6.0 | 150 / - / 50.0" in row
    )
    assert row.endswith("300 / 200 | 3 | FAILED |")
    assert "The machine was not quiet: the signing limit went from 3,000 to 4,000" in text
    assert "| unary | sqlite | cfssl, certificates/s (ours to it) | 500 (2.0) |  |  |" in text
    assert "| unary | sqlite | overload: throughput recovered after | never |  |  |" in text
    assert "| unary | sqlite | overload: p50 / p99 of refusals | no call was refused |  |  |" in text
    assert "| unary | sqlite | unary>=0.8combined-bound | 1.00 | 2.00 | **no** |" in text
