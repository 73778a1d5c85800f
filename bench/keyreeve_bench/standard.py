"""`make bench`: run the standard scenarios against temporary control planes, on SQLite and on PostgreSQL.

The control planes live in a temporary directory on free ports and are deleted afterwards. Each scenario leaves a report, one
JSON file; a scenario that fails leaves a report with the error, and the next one runs.
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

from keyreeve.cli.exit_codes import Exit, print_error
from keyreeve_bench import filled
from keyreeve_bench.control_planes import DATABASES, control_plane
from keyreeve_bench.scenarios import bad_input, connections, fairness, memory, overload, replicas, slow_fsync
from keyreeve_bench.scenarios.scenario import Place, Run, scenario_report, text_of
from keyreeve_bench.settings import BenchSettings
from keyreeve_bench.sign import bench_sign
from keyreeve_bench.table import table

SCENARIOS: dict[str, Run] = {
    "overload": overload.run,
    "slow-fsync": slow_fsync.run,
    "fairness": fairness.run,
    "bad-input": bad_input.run,
    "replicas": replicas.run,
    "connections": connections.run,
    "memory": memory.run,
    "filled": filled.run,
}
"""Scenarios that start their own control planes."""
LONG = ("memory", "filled")
"""Scenarios that take 15 minutes or more; they run only by name or with `--long`."""
_MOST_SECONDS = 3600.0
"""Time limit of one signing scenario, so that a hang does not stop the others."""


@dataclass(frozen=True, slots=True)
class SigningScenario:
    """A scenario that is one `keyreeve bench sign`; several share a control plane."""

    name: str
    settings: BenchSettings


def signing_scenarios(duration: float, runs: int, compare: Sequence[str]) -> list[SigningScenario]:
    """The signing scenarios, except the open loop, whose rate depends on the result of `unary`."""
    usual = BenchSettings(duration=duration, runs=runs, warm_up=min(2.0, duration), limit_seconds=min(1.0, duration))
    few = replace(usual, runs=min(runs, 3))
    return [
        SigningScenario("unary", replace(usual, compare=tuple(compare), overload=duration)),
        SigningScenario("unary-256", replace(few, in_flight=256, compare=tuple(compare))),
        SigningScenario("one-by-one", replace(few, in_flight=1, connections=1, processes=1)),
        SigningScenario("batch-100", replace(usual, batch=100, in_flight=8, connections=8, overload=duration)),
        SigningScenario("sdk", replace(few, client="sdk", in_flight=256, processes=1)),
        SigningScenario("sdk-one-by-one", replace(few, client="sdk", in_flight=256, processes=1, coalesce=False)),
        SigningScenario("plot", replace(few, runs=1, plot="load", sweep_seconds=min(5.0, duration))),
        *(
            SigningScenario(f"batch-100-{keys}", replace(few, batch=100, in_flight=8, connections=8, keys=keys))
            for keys in _KEYS
        ),
    ]


_KEYS = ("p384", "rsa2048", "ed25519", "mix")


def run_signing(database: str, scenarios: list[SigningScenario], reports: Path) -> bool:
    """Run signing scenarios against one control plane, write their reports, and say whether all checks passed."""
    passed = True
    with _temporary() as directory, control_plane(directory, database) as state_directory:
        todo = list(scenarios)
        for one in todo:
            print_error(f"--- {one.name} on {database}")
            plot = str(reports / f"load-{database}.svg") if one.settings.plot else None
            settings = replace(one.settings, context=str(state_directory.context), plot=plot)
            report = _guarded(one.name, database, partial(_sign, settings))
            passed &= _keep(reports / f"{one.name}-{database}.json", report)
            if one.name == "unary" and report.get("certificates_per_second"):
                half = report["certificates_per_second"]["median"] / 2
                open_loop = replace(one.settings, rate=half, in_flight=1024, compare=(), overload=None)
                todo.insert(todo.index(one) + 1, SigningScenario("open-loop-half", open_loop))
        shutil.copy(state_directory.log("ca"), reports / f"ca-{database}.log")
    return passed


def _sign(settings: BenchSettings) -> dict[str, Any]:
    return asyncio.run(asyncio.wait_for(bench_sign(settings), _MOST_SECONDS))


def run_scenario(name: str, place: Place) -> bool:
    """Run a scenario that starts its own control planes, write its report, and say whether it could run."""
    print_error(f"--- {name} on {place.database}")
    with _temporary() as directory:
        here = replace(place, directory=directory)
        report = _guarded(name, place.database, lambda: scenario_report(name, here, SCENARIOS[name]))
    return _keep(place.reports / f"{name}-{place.database}.json", report)


@contextmanager
def _temporary() -> Iterator[Path]:
    # Not below the working directory: PostgreSQL's own user has to reach it, and socket names are short.
    with tempfile.TemporaryDirectory(prefix="keyreeve-bench-", ignore_cleanup_errors=True) as name:
        Path(name).chmod(0o711)
        yield Path(name)


def _guarded(name: str, database: str, work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The scenario's report, or one with its error, so that the results of the others are kept."""
    try:
        return work()
    except Exception as failure:  # noqa: BLE001 - the other scenarios run in any case
        print_error(traceback.format_exc())
        error = f"failed: {type(failure).__name__}: {failure}"
        return {"scenario": name, "database": {"kind": database}, "ok": False, "error": error, "figures": []}


def _keep(file: Path, report: dict[str, Any]) -> bool:
    file.write_text(json.dumps(report, indent=2) + "\n")
    sys.stdout.write(f"\n{file.stem}\n{text_of(report) if 'figures' in report else table(report)}\n")
    sys.stdout.flush()
    return bool(report["ok"])


def main(arguments: Sequence[str]) -> int:
    """Run the standard scenarios and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m keyreeve_bench.standard", description="Run the standard scenarios."
    )
    parser.add_argument("--duration", type=float, default=10.0, help="seconds of each run")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--database", action="append", choices=DATABASES, help="default: both")
    parser.add_argument("--only", action="append", default=[], help="name of a scenario, such as unary or overload")
    parser.add_argument("--long", action="store_true", help=f"also {' and '.join(LONG)}, which take long")
    parser.add_argument("--certificates", type=int, default=5_000_000, help="certificates that `memory` issues")
    parser.add_argument("--filled", type=int, default=20_000_000, help="certificates in the ledger of `filled`")
    parser.add_argument(
        "--compare",
        action="append",
        default=[],
        help="a baseline to measure with `unary` and `unary-256`: cfssl or step-ca",
    )
    parser.add_argument("--reports", type=Path, default=Path(".bench/reports"))
    given = parser.parse_args(arguments)
    # End through `finally`, which stops the control planes.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(Exit.INTERRUPTED))
    signing = signing_scenarios(given.duration, given.runs, given.compare)
    known = [*(one.name for one in signing), *SCENARIOS]
    if unknown := [name for name in given.only if name not in known]:
        parser.error(f"no scenario is called {unknown[0]!r}; available are {', '.join(known)}")
    wanted = [name for name in known if name in given.only or (not given.only and (given.long or name not in LONG))]
    if absent := [name for name in given.compare if shutil.which(name) is None]:
        parser.error(f"`{absent[0]}` is not on PATH; `make bench-baselines` builds it into .bench/bin")
    given.reports.mkdir(parents=True, exist_ok=True)
    passed = True
    for database in given.database or DATABASES:
        place = Place(database, Path(), given.reports, given.duration, min(given.runs, 3), given.certificates)
        if some := [one for one in signing if one.name in wanted]:
            # They share one control plane; when it does not start, the report `signing-...` holds the error.
            whole = _guarded("signing", database, lambda: {"ok": run_signing(database, some, given.reports)})  # noqa: B023
            passed &= whole["ok"] if "error" not in whole else _keep(given.reports / f"signing-{database}.json", whole)
        for name in wanted:
            if name in SCENARIOS:
                certificates = given.filled if name == "filled" else given.certificates
                passed &= run_scenario(name, replace(place, certificates=certificates))
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
