"""What a row of the standard set is given and what it tells."""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from keyreeve.cli.exit_codes import say
from keyreeve.cli.local_commands import versions
from keyreeve.cli.state_directory import StateDirectory
from keyreeve_bench import disk
from keyreeve_bench.local_processes import machine


class RowSkipped(Exception):
    """The row cannot be run here; the text says why."""


class MakeControlPlane(Protocol):
    """Makes a control plane in a directory."""

    def __call__(self, directory: Path, database: str) -> Iterator[StateDirectory]: ...


@dataclass(frozen=True, slots=True)
class Place:
    """Where and how long a row runs."""

    database: str
    directory: Path
    """Its own, which others may enter (PostgreSQL's user) and which is gone afterwards."""
    reports: Path
    duration: float
    """Seconds of each run."""
    runs: int
    certificates: int
    """How many the rows `memory` and `filled` make."""
    only: tuple[str, ...] = ()
    """Kinds of calls of `filled`; all unless given."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure of a report, and what it should be."""

    name: str
    value: float | None
    unit: str = ""
    at_most: float | None = None
    at_least: float | None = None

    @property
    def wanted(self) -> str:
        """What it should be, for people; empty when any value will do."""
        if self.at_most is not None:
            return f"<= {self.at_most:g} {self.unit}".rstrip()
        return "" if self.at_least is None else f">= {self.at_least:g} {self.unit}".rstrip()

    @property
    def held(self) -> bool | None:
        """Whether it is as it should be; None when any value will do. What could not be measured does not hold."""
        if not self.wanted:
            return None
        if self.value is None:
            return False
        return self.value <= self.at_most if self.at_most is not None else self.value >= (self.at_least or 0.0)

    def to_document(self) -> dict[str, Any]:
        """Plain values."""
        return {"name": self.name, "value": self.value, "unit": self.unit, "wanted": self.wanted, "held": self.held}


Run = Callable[[Place], tuple[list[Figure], dict[str, Any]]]
"""A row: its figures, and whatever else the report is to have."""


def report_of_row(name: str, place: Place, run: Run) -> dict[str, Any]:
    """Run a row; its report. Raises what the row raises, but for `RowSkipped`, which becomes a report that says so."""
    fsync = disk.measure(place.directory, 1.0)
    began = time.monotonic()
    document: dict[str, Any] = {
        "row": name,
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
    except RowSkipped as why:
        return document | {"skipped": str(why), "figures": []}
    return (
        document
        | {"seconds": round(time.monotonic() - began, 1), "figures": [one.to_document() for one in figures]}
        | details
    )


def _of_disk(fsync: disk.Disk) -> dict[str, str]:
    return {name: value for name, value in asdict(fsync).items() if name in {"device", "file_system", "path"}}


def text_of(report: Mapping[str, Any]) -> str:
    """The figures of a row's report for a person."""
    if why := report.get("skipped") or report.get("error"):
        return f"{why}\n"
    rows = [(one["name"], shown(one["value"], one["unit"]), one) for one in report["figures"]]
    width = max((len(name) for name, _, _ in rows), default=0)
    return "".join(f"{name.ljust(width)}  {value}{_verdict(one)}\n" for name, value, one in rows)


def _verdict(one: Mapping[str, Any]) -> str:
    if one["held"] is None:
        return ""
    return f"   (wanted {one['wanted']}: {'held' if one['held'] else 'NOT HELD'})"


def shown(value: float | None, unit: str) -> str:
    """A figure as people read it: three digits, and no more places than they need."""
    if value is None:
        return "not measured"
    places = 0 if value == 0 or abs(value) >= 100 else max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:,.{min(places, 3)}f} {unit}".rstrip()


@contextmanager
def telling(what: str) -> Iterator[None]:
    """Say what begins; a person sees that something happens."""
    say(f"    {what}")
    yield


def ratio(one: float, other: float) -> float | None:
    """One of the other, with three places; None when there is no other."""
    return round(one / other, 3) if other else None
