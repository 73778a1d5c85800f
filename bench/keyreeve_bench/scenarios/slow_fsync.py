"""`slow-fsync`: the same load while every fsync takes 1 ms and 5 ms longer, in the service and in PostgreSQL.

A few lines of C (slow_fsync.c) are compiled and preloaded into a control plane for each delay. The three run side by side
and are loaded in turn, so that what else the machine does falls on all of them.
"""

import json
import os
import shutil
import statistics
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]

from keyreeve.cli.state_directory import StateDirectory
from keyreeve_bench.control_planes import control_plane
from keyreeve_bench.scenarios.scenario import Figure, Place, RowSkipped, ratio
from keyreeve_bench.scenarios.tool import Tool, closed

DELAYS_MS = (0, 1, 5)
IN_FLIGHT = 512
WANTED = {"batch-100": 0.9, "unary-512": 0.8}
_DELAY = "BENCH_FSYNC_US"
_SOURCE = Path(__file__).parent.parent / "slow_fsync.c"


def run(place: Place) -> tuple[list[Figure], dict[str, Any]]:
    """Load three control planes in turn. Raises `keyreeve.errors`, `RowSkipped` where there is no compiler."""
    shim = compiled(place.directory)
    rates: dict[str, dict[int, list[float]]] = {kind: {delay: [] for delay in DELAYS_MS} for kind in WANTED}
    p99: dict[str, dict[int, list[float]]] = {kind: {delay: [] for delay in DELAYS_MS} for kind in WANTED}
    with ExitStack() as stack:
        tools: dict[int, Tool] = {}
        fsync_ms: dict[int, float | None] = {}
        for delay in DELAYS_MS:
            directory = place.directory / f"delay-{delay}"
            directory.mkdir()
            with preloaded(shim, delay):
                state_directory = stack.enter_context(control_plane(directory, place.database))
            tools[delay] = Tool(state_directory, directory)
            fsync_ms[delay] = measured_fsync_ms(state_directory)
        slowed = processes_with(shim)
        for _ in range(place.runs):
            for delay, tool in tools.items():
                loads = {
                    "batch-100": tool.batches(*closed(place.duration, 8)),
                    "unary-512": tool.singles(*closed(place.duration, IN_FLIGHT)),
                }
                for kind, load in loads.items():
                    told = tool.go(load)[0].measured
                    rates[kind][delay].append(round(told.rate, 1))
                    p99[kind][delay].append(told.latency_ms()["p99"])
    figures = []
    for kind, wanted in WANTED.items():
        medians = {delay: statistics.median(rates[kind][delay]) for delay in DELAYS_MS}
        figures += [Figure(f"{kind} at 0 ms", medians[0], "certificates/s")]
        figures += [
            Figure(f"{kind} at {delay} ms to 0 ms", ratio(medians[delay], medians[0]), at_least=wanted)
            for delay in DELAYS_MS
            if delay
        ]
    # If the shim did nothing, the ratios would look splendid.
    figures += [
        Figure(f"the service's fsync with {delay} ms more", fsync_ms[delay], "ms", at_least=float(delay))
        for delay in DELAYS_MS
    ]
    if place.database == "postgresql":
        figures.append(
            Figure("processes of PostgreSQL that are slowed", float(slowed.get("postgres", 0)), at_least=3.0)
        )
    return figures, {"rates": rates, "p99_ms": p99, "slowed_processes": slowed}


def compiled(directory: Path) -> Path:
    """The library to preload. Raises `RowSkipped`."""
    compiler = shutil.which("cc")
    if compiler is None:
        raise RowSkipped("skipped: there is no `cc` here to compile what makes an fsync slow")
    library = directory / "slow_fsync.so"
    command = [compiler, "-O1", "-shared", "-fPIC", "-o", str(library), str(_SOURCE), "-ldl"]
    done = subprocess.run(command, check=False, capture_output=True)  # noqa: S603
    if done.returncode != 0:
        raise RowSkipped(f"skipped: `cc` failed: {done.stderr.decode(errors='replace')}")
    library.chmod(0o755)  # PostgreSQL's own user has to read it
    return library


@contextmanager
def preloaded(library: Path, delay_ms: int) -> Iterator[None]:
    """Whatever is started meanwhile has a slow fsync, and all that it starts later."""
    os.environ |= {"LD_PRELOAD": str(library), _DELAY: str(delay_ms * 1000)}
    try:
        yield
    finally:
        for name in ("LD_PRELOAD", _DELAY):
            del os.environ[name]


def measured_fsync_ms(state_directory: StateDirectory) -> float | None:
    """What the service measured of its own fsync at its start; None when it did not tell."""
    found = next(state_directory.state("ca").rglob("machine.json"), None) or next(
        state_directory.root.rglob("machine.json"), None
    )
    return None if found is None else round(float(json.loads(found.read_text())["fsync"]) * 1000, 3)


def processes_with(library: Path) -> dict[str, int]:
    """How many processes of each name have the library loaded."""
    found: dict[str, int] = {}
    for process in psutil.process_iter(["name"]):
        try:
            if str(library) in Path(f"/proc/{process.pid}/maps").read_text():
                found[process.info["name"]] = found.get(process.info["name"], 0) + 1
        except OSError:
            continue
    return found
