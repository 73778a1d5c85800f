"""`guarantees`: what each promise of the signing path costs, in microseconds of CPU for one certificate.

A CA of a few lines (`bare_ca`) is asked for the same certificates over the same gRPC and mutual TLS; then policy, the check of
the final TBSCertificate and the parse-back are added, one at a time. What the ledger and its audit records cost is measured
by commits in a process of their own (and PostgreSQL's): a server without them would not be this one. `everything` is the
real service. Medians of runs in turn. What is left between the sum and everything are access check, turns, request ids, the
way to the keeper and telemetry.
"""

import asyncio
import json
import statistics
import subprocess
import sys
from contextlib import AsyncExitStack
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from keyreeve.errors import StartFailed
from keyreeve_bench import session
from keyreeve_bench.echo import service
from keyreeve_bench.local_processes import Group
from keyreeve_bench.planes import control_plane
from keyreeve_bench.rows.row import Figure, Place, RowSkipped
from keyreeve_bench.rows.tool import BATCHES, SINGLES, Tool, closed
from keyreeve_bench.session import Load, Outcome
from keyreeve_bench.sign import machine_cores

STAGES = ("policy", "final check", "parse-back")
_BARE = "bare_ca"
_COMMITS = "committing"
"""Programs in bench/ of the source: they know the service from within, which this package does not."""


def run(place: Place) -> tuple[list[Figure], dict[str, Any]]:
    """Each stage for single calls and for batches. Raises `keyreeve.errors`, `RowSkipped`."""
    if find_spec(_BARE) is None or find_spec(_COMMITS) is None:
        raise RowSkipped(f"skipped: {_BARE} and {_COMMITS} are only where the source is installed for development")
    with control_plane(place.directory, place.database) as home:
        taken = asyncio.run(_in_turn(Tool(home, place.directory), place))
    costs = {
        kind: {stage: round(statistics.median(some), 1) for stage, some in found.items()}
        for kind, found in taken.items()
    }
    ledgers = _commits(place.database, place.directory)
    figures: list[Figure] = []
    for kind, found in costs.items():
        figures.append(Figure(f"{kind}: a bare CA", found["bare"], "us"))
        before = found["bare"]
        for stage in STAGES:
            figures.append(Figure(f"{kind}: {stage}, more", round(found[stage] - before, 1), "us"))
            before = found[stage]
        commit, recorded = ledgers[kind]
        rest = found["everything"] - before - recorded
        figures += [
            Figure(f"{kind}: ledger commit without audit, more (microbenchmark)", commit, "us"),
            Figure(f"{kind}: audit record in the commit, more (microbenchmark)", round(recorded - commit, 1), "us"),
            Figure(f"{kind}: access check, turns, request ids and all the rest, more", round(rest, 1), "us"),
            Figure(f"{kind}: everything (the service and its database)", found["everything"], "us"),
        ]
    return figures, {"cpu_us": costs, "commit_us": ledgers}


def _loads(tool: Tool, seconds: float) -> dict[str, Load]:
    return {"unary": tool.singles(*closed(seconds, SINGLES)), "batch": tool.batches(*closed(seconds, BATCHES))}


async def _in_turn(tool: Tool, place: Place) -> dict[str, dict[str, list[float]]]:
    """Each stage's microseconds by kind; all servers are there all the time, and one of them is loaded."""
    async with AsyncExitStack() as stack:
        stages = {"everything": (tool.home.context, tool.server | tool.database)}
        for number in range(len(STAGES) + 1):
            directory = place.directory / f"bare-{number}"
            directory.mkdir()
            made = service(_BARE, directory, {"added": list(STAGES[:number])}, machine_cores())
            context, children = await stack.enter_async_context(made)
            stages[("bare", *STAGES)[number]] = (context, {f"worker-{one.pid}": Group(one.pid) for one in children})
        loads = _loads(tool, place.duration)
        found: dict[str, dict[str, list[float]]] = {kind: {stage: [] for stage in stages} for kind in loads}
        for _ in range(place.runs):
            for kind, load in loads.items():
                for stage, (context, watched) in stages.items():
                    go = session.run(replace(load, context=context), watched=watched, show=lambda *_: None)
                    found[kind][stage].append(_micros(await go))
    return found


def _micros(outcome: Outcome) -> float:
    """CPU of everything but the clients for one certificate."""
    spent = sum(seconds for name, seconds in outcome.cpu_seconds.items() if name != "client")
    return round(1e6 * spent / max(1, outcome.measured.certificates), 1)


def _commits(database: str, directory: Path) -> dict[str, tuple[float, float]]:
    """Microseconds of CPU for one certificate of a commit, without and with audit records."""
    place = directory / "commits"
    place.mkdir()
    command = [sys.executable, "-P", "-m", _COMMITS, database, str(place)]
    done = subprocess.run(command, check=False, capture_output=True, timeout=600)  # noqa: S603
    if done.returncode != 0:
        raise StartFailed(f"{_COMMITS} failed: {done.stderr.decode(errors='replace')}")
    found: dict[str, tuple[float, float]] = json.loads(done.stdout)
    return found
