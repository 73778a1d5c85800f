"""Collects the table of `make attacks`: what each attack did to a good client, and to the memory of a worker."""

import os
from collections.abc import Callable

import pytest

from support.attack_table import HEADS, SHOWN, Row

_ROWS: list[Row] = []
_HELD: dict[str, int] = {}


@pytest.fixture
def attack_table() -> Callable[[Row], None]:
    """Adds a row to the table."""
    return _ROWS.append


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Count the forms of each attack that is no load."""
    if report.when == "call" and report.passed and "tests/attacks/" in report.nodeid and "http2" not in report.nodeid:
        name = report.nodeid.rpartition("::")[2].partition("[")[0].removeprefix("test_").replace("_", " ")
        _HELD[name] = _HELD.get(name, 0) + 1


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the table."""
    if SHOWN not in os.environ:
        return
    rows = [*_ROWS, *(Row(name, f"held, {count} forms" if count > 1 else "held") for name, count in _HELD.items())]
    terminalreporter.section("attacks")
    for cells in (HEADS, ("---",) * len(HEADS), *(row.cells() for row in rows)):
        terminalreporter.write_line(f"| {' | '.join(cells)} |")
