"""Input and report of a scenario."""

import json
import math
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from keyreeve.cli.exit_codes import error_text, exit_code, print_error
from keyreeve.cli.reference_commands import versions
from keyreeve.errors import KeyreeveError
from keyreeve_bench import disk
from keyreeve_bench.local_processes import machine


class ScenarioSkipped(Exception):
    """The scenario cannot run on this machine; the text says why."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where and how long a scenario runs."""

    database: str
    directory: Path
    """A temporary directory of its own that PostgreSQL's user may enter."""
    reports: Path
    duration: float
    """Seconds of each run."""
    runs: int
    certificates: int
    """Certificates that the scenarios `memory` and `filled` create."""
    only: tuple[str, ...] = ()
    """Kinds of calls that `filled` measures; empty means all."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure of a report, with its target if it has one."""

    name: str
    value: float | None
    unit: str = ""
    at_most: float | None = None
    at_least: float | None = None

    @property
    def target(self) -> str:
        """The target as text; empty without one."""
        if self.at_most is not None:
            return f"<= {self.at_most:g} {self.unit}".rstrip()
        return "" if self.at_least is None else f">= {self.at_least:g} {self.unit}".rstrip()

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None without a target, False when there is no value."""
        if not self.target:
            return None
        if self.value is None:
            return False
        return self.value <= self.at_most if self.at_most is not None else self.value >= (self.at_least or 0.0)

    def to_document(self) -> dict[str, Any]:
        """JSON values."""
        return {"name": self.name, "value": self.value, "unit": self.unit, "target": self.target, "met": self.met}


Run = Callable[[Place], tuple[list[Figure], dict[str, Any]]]
"""A scenario: returns its figures, and further keys of its report."""


def scenario_report(name: str, place: Place, run: Run) -> dict[str, Any]:
    """Run a scenario and build its report; `ScenarioSkipped` becomes a report with the reason."""
    fsync = disk.measure(place.directory, 1.0)
    began = time.monotonic()
    document: dict[str, Any] = {
        "scenario": name,
        "database": {"kind": place.database},
        "machine": machine(),
        "versions": versions(),
        "fsync_us": {"median": fsync.fsync_us, "p99": fsync.fsync_p99_us} | _of_disk(fsync),
        "duration": place.duration,
        "runs": place.runs,
        "ok": True,
    }
    try:
        figures, details = run(place)
    except ScenarioSkipped as why:
        return document | {"skipped": str(why), "figures": []}
    return (
        document
        | {"seconds": round(time.monotonic() - began, 1), "figures": [one.to_document() for one in figures]}
        | details
    )


def print_report(name: str, database: str, duration: float, certificates: int, run: Run) -> int:
    """Run a scenario in a temporary directory, print its report as JSON, and return the exit code.

    The code is 1 when a target is missed.
    """
    try:
        # Not below the working directory: PostgreSQL's own user has to reach it, and socket names are short.
        with tempfile.TemporaryDirectory(prefix="keyreeve-bench-", ignore_cleanup_errors=True) as directory:
            Path(directory).chmod(0o711)
            place = Place(database, Path(directory), Path(), duration, 1, certificates)
            found = scenario_report(name, place, run)
    except KeyreeveError as error:
        print_error(error_text(error))
        return exit_code(error)
    sys.stdout.write(json.dumps(found, indent=2) + "\n")
    return int(any(one["met"] is False for one in found["figures"]))


def _of_disk(fsync: disk.Disk) -> dict[str, str]:
    return {name: value for name, value in asdict(fsync).items() if name in {"device", "file_system", "path"}}


def text_of(report: Mapping[str, Any]) -> str:
    """Render the figures of a scenario's report as text."""
    if why := report.get("skipped") or report.get("error"):
        return f"{why}\n"
    rows = [(one["name"], shown(one["value"], one["unit"]), one) for one in report["figures"]]
    width = max((len(name) for name, _, _ in rows), default=0)
    return "".join(f"{name.ljust(width)}  {value}{_verdict(one)}\n" for name, value, one in rows)


def _verdict(one: Mapping[str, Any]) -> str:
    if one["met"] is None:
        return ""
    return f"   (target {one['target']}: {'met' if one['met'] else 'NOT MET'})"


def shown(value: float | None, unit: str) -> str:
    """Format a figure with three significant digits."""
    if value is None:
        return "not measured"
    places = 0 if value == 0 or abs(value) >= 100 else max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:,.{min(places, 3)}f} {unit}".rstrip()


def ratio(one: float, other: float) -> float | None:
    """Quotient with three decimal places; None when the divisor is 0."""
    return round(one / other, 3) if other else None
