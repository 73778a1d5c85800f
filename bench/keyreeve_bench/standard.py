"""`make bench`: the standard runs, against control planes that it makes for them, on SQLite and on PostgreSQL.

Everything lies in a temporary directory and on free ports, and is gone afterwards; the reports stay, one JSON file for each
row of the table. A row that fails leaves a report that says why, and the next one runs.
"""

import argparse
import asyncio
import json
import shutil
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from keyreeve.cli.exit_codes import Exit, say
from keyreeve_bench import filled
from keyreeve_bench.control_planes import DATABASES, control_plane
from keyreeve_bench.scenarios import bad_input, fairness, memory, overload, slow_fsync
from keyreeve_bench.scenarios.scenario import Place, Run, report_of_row, text_of
from keyreeve_bench.settings import BenchSettings
from keyreeve_bench.sign import bench_sign
from keyreeve_bench.table import table

SPECIAL: dict[str, Run] = {
    "overload": overload.run,
    "slow-fsync": slow_fsync.run,
    "fairness": fairness.run,
    "bad-input": bad_input.run,
    "memory": memory.run,
    "filled": filled.run,
}
LONG = ("memory", "filled")
"""Rows that take a quarter of an hour and more, and run only when they are named."""
_MOST_SECONDS = 3600.0
"""Of one row of calls: a bench that hangs must not keep the others from their turn."""


@dataclass(frozen=True, slots=True)
class AccessRule:
    """One bench of the standard set."""

    name: str
    settings: BenchSettings


def rows(duration: float, runs: int, compare: Sequence[str]) -> list[AccessRule]:
    """The standard set, without the open loop, whose rate is half of what `unary` brought."""
    usual = BenchSettings(duration=duration, runs=runs, warm_up=min(2.0, duration), limit_seconds=min(1.0, duration))
    few = replace(usual, runs=min(runs, 3))
    return [
        AccessRule("unary", replace(usual, compare=tuple(compare), overload=duration)),
        AccessRule("batch-100", replace(usual, batch=100, in_flight=8, connections=8, overload=duration)),
        AccessRule("sdk", replace(few, client="sdk", in_flight=256, processes=1)),
        AccessRule("sdk-one-by-one", replace(few, client="sdk", in_flight=256, processes=1, coalesce=False)),
        AccessRule("plot", replace(few, runs=1, plot="load", sweep_seconds=min(5.0, duration))),
        *(
            AccessRule(f"batch-100-{keys}", replace(few, batch=100, in_flight=8, connections=8, keys=keys))
            for keys in _KEYS
        ),
    ]


_KEYS = ("p384", "rsa2048", "ed25519", "mix")


def run_calls(database: str, wanted: list[AccessRule], reports: Path) -> bool:
    """Run rows of calls against one control plane and write their reports; whether all checks held."""
    held = True
    with _temporary() as directory, control_plane(directory, database) as state_directory:
        todo = list(wanted)
        for row in todo:
            say(f"--- {row.name} on {database}")
            plot = str(reports / f"load-{database}.svg") if row.settings.plot else None
            settings = replace(row.settings, context=str(state_directory.context), plot=plot)
            report = _guarded(row.name, database, partial(_calls, settings))
            held &= _keep(reports / f"{row.name}-{database}.json", report)
            if row.name == "unary" and report.get("certificates_per_second"):
                half = report["certificates_per_second"]["median"] / 2
                open_loop = replace(row.settings, rate=half, in_flight=1024, compare=(), overload=None)
                todo.insert(todo.index(row) + 1, AccessRule("open-loop-half", open_loop))
        shutil.copy(state_directory.log("ca"), reports / f"ca-{database}.log")
    return held


def _calls(settings: BenchSettings) -> dict[str, Any]:
    return asyncio.run(asyncio.wait_for(bench_sign(settings), _MOST_SECONDS))


def run_special(name: str, place: Place) -> bool:
    """Run a row that makes control planes of its own, and write its report; whether it could be run."""
    say(f"--- {name} on {place.database}")
    with _temporary() as directory:
        here = replace(place, directory=directory)
        report = _guarded(name, place.database, lambda: report_of_row(name, here, SPECIAL[name]))
    return _keep(place.reports / f"{name}-{place.database}.json", report)


@contextmanager
def _temporary() -> Iterator[Path]:
    # Not below the working directory: PostgreSQL's own user has to reach it, and socket names are short.
    with tempfile.TemporaryDirectory(prefix="keyreeve-bench-", ignore_cleanup_errors=True) as name:
        Path(name).chmod(0o711)
        yield Path(name)


def _guarded(name: str, database: str, work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The row's report; one that says why there is none, so that hours of other rows are not lost with it."""
    try:
        return work()
    except Exception as failure:  # noqa: BLE001 - whatever it is, the next row has its turn
        say(traceback.format_exc())
        told = f"failed: {type(failure).__name__}: {failure}"
        return {"row": name, "database": {"kind": database}, "ok": False, "error": told, "figures": []}


def _keep(file: Path, report: dict[str, Any]) -> bool:
    file.write_text(json.dumps(report, indent=2) + "\n")
    sys.stdout.write(f"\n{file.stem}\n{text_of(report) if 'figures' in report else table(report)}\n")
    sys.stdout.flush()
    return bool(report["ok"])


def main(arguments: Sequence[str]) -> int:
    """Run the standard set; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m keyreeve_bench.standard", description="The standard runs.")
    parser.add_argument("--duration", type=float, default=10.0, help="seconds of each run")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--database", action="append", choices=DATABASES, help="both unless given")
    parser.add_argument("--only", action="append", default=[], help="name of a row, such as unary or overload")
    parser.add_argument("--long", action="store_true", help=f"also {' and '.join(LONG)}, which take long")
    parser.add_argument("--certificates", type=int, default=5_000_000, help="how many `memory` signs")
    parser.add_argument("--filled", type=int, default=20_000_000, help="how many the ledger of `filled` has")
    parser.add_argument("--compare", action="append", default=[], help="a peer to measure beside `unary`")
    parser.add_argument("--reports", type=Path, default=Path(".bench/reports"))
    given = parser.parse_args(arguments)
    # The control planes would go on without us.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(Exit.INTERRUPTED))
    calls = rows(given.duration, given.runs, given.compare)
    known = [*(row.name for row in calls), *SPECIAL]
    if unknown := [name for name in given.only if name not in known]:
        parser.error(f"there is no row {unknown[0]!r}; there are {', '.join(known)}")
    wanted = [name for name in known if name in given.only or (not given.only and (given.long or name not in LONG))]
    if absent := [peer for peer in given.compare if shutil.which(peer) is None]:
        parser.error(f"`{absent[0]}` is not on PATH; `make bench-peers` builds it into .bench/bin")
    given.reports.mkdir(parents=True, exist_ok=True)
    held = True
    for database in given.database or DATABASES:
        place = Place(database, Path(), given.reports, given.duration, min(given.runs, 3), given.certificates)
        if some := [row for row in calls if row.name in wanted]:
            # Without a control plane none of these rows can run; the others make their own.
            whole = _guarded("calls", database, lambda: {"ok": run_calls(database, some, given.reports)})  # noqa: B023
            held &= whole["ok"] if "error" not in whole else _keep(given.reports / f"calls-{database}.json", whole)
        for name in wanted:
            if name in SPECIAL:
                made = given.filled if name == "filled" else given.certificates
                held &= run_special(name, replace(place, certificates=made))
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
