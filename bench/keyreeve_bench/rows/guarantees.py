"""`guarantees`: what each promise of the signing path costs, in microseconds of CPU for one certificate.

A CA of a few lines (`bare`) is asked for the same certificates over the same gRPC and mutual TLS; then policy, the check of
the final TBSCertificate and the parse-back are added, one at a time. What the ledger and its audit records cost is measured
by commits in this process (and PostgreSQL's): a server without them would not be this one. `everything` is the real service.
What is left between the sum and everything are access check, turns, request ids, the way to the keeper and telemetry.
"""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

from keyreeve_bench import session
from keyreeve_bench.committing import Committing, NoChain, ledger_on, opened
from keyreeve_bench.echo import service
from keyreeve_bench.local_processes import Group
from keyreeve_bench.planes import control_plane
from keyreeve_bench.rows import bare
from keyreeve_bench.rows.row import Figure, Place
from keyreeve_bench.rows.tool import BATCHES, SINGLES, Tool, closed
from keyreeve_bench.session import Load, Outcome
from keyreeve_bench.sign import machine_cores

STAGES = (bare.POLICY, bare.FINAL_CHECK, bare.PARSE_BACK)
GROUPS = {"unary": (10, 1), "batch": (1, 100)}
"""Requests in a group, and certificates in each: about what the keeper is sent under load."""
_COMMITTED = 4_000


def run(place: Place) -> tuple[list[Figure], dict[str, Any]]:
    """Each stage for single calls and for batches. Raises `keyreeve.errors`."""
    costs: dict[str, dict[str, float]] = {"unary": {}, "batch": {}}
    with control_plane(place.directory, place.database) as home:
        tool = Tool(home, place.directory)
        watched = tool.server | tool.database
        for kind, load in _loads(tool, place.duration).items():
            (whole,) = tool.go(load, watched=watched)
            costs[kind]["everything"] = _micros(whole)
        for number in range(len(STAGES) + 1):
            added = list(STAGES[:number])
            directory = place.directory / f"bare-{number}"
            directory.mkdir()
            for kind, told in asyncio.run(_bare(tool, directory, added, place.duration)).items():
                costs[kind][added[-1] if added else "bare"] = told
    ledgers = asyncio.run(_commits(place.database, place.directory))
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
            Figure(f"{kind}: ledger commit without audit, more (in process)", commit, "us"),
            Figure(f"{kind}: audit record in the commit, more (in process)", round(recorded - commit, 1), "us"),
            Figure(f"{kind}: access check, turns, request ids and all the rest, more", round(rest, 1), "us"),
            Figure(f"{kind}: everything (the service and its database)", found["everything"], "us"),
        ]
    return figures, {"cpu_us": costs, "commit_us": ledgers}


def _loads(tool: Tool, seconds: float) -> dict[str, Load]:
    return {"unary": tool.singles(*closed(seconds, SINGLES)), "batch": tool.batches(*closed(seconds, BATCHES))}


async def _bare(tool: Tool, directory: Path, added: list[str], seconds: float) -> dict[str, float]:
    costs = {}
    async with service("keyreeve_bench.rows.bare", directory, {"added": added}, machine_cores()) as (context, children):
        watched = {f"worker-{child.pid}": Group(child.pid) for child in children}
        for kind, load in _loads(tool, seconds).items():
            outcome = await session.run(replace(load, context=context), watched=watched, show=lambda *_: None)
            costs[kind] = _micros(outcome)
    return costs


def _micros(outcome: Outcome) -> float:
    """CPU of everything but the clients for one certificate."""
    spent = sum(seconds for name, seconds in outcome.cpu_seconds.items() if name != "client")
    return round(1e6 * spent / max(1, outcome.measured.certificates), 1)


async def _commits(database: str, directory: Path) -> dict[str, tuple[float, float]]:
    """Microseconds of CPU for one certificate of a commit, without and with audit records."""
    place = directory / "commits"
    place.mkdir()
    found = {}
    with opened(database, place) as (reader, writer):
        ledger, _ = await ledger_on(database, reader, writer)
        pid = place / "postgresql" / "data" / "postmaster.pid"
        server = Group(int(pid.read_text().split()[0])) if database == "postgresql" else None
        committing, chain = Committing(ledger), ledger._chain  # noqa: SLF001 - to measure what it costs
        for kind, (size, items) in GROUPS.items():
            costs = []
            for recorded in (False, True):
                ledger._chain = chain if recorded else NoChain()  # type: ignore[assignment]  # noqa: SLF001
                await committing.commit(size, items)
                before, turns = committing.cpu_seconds + _spent(server), _COMMITTED // (size * items)
                for _ in range(turns):
                    await committing.commit(size, items)
                spent = committing.cpu_seconds + _spent(server) - before
                costs.append(round(1e6 * spent / (turns * size * items), 1))
            ledger._chain = chain  # noqa: SLF001
            found[kind] = (costs[0], costs[1])
    return found


def _spent(server: Group | None) -> float:
    return 0.0 if server is None else server.usage().cpu_seconds
