"""`slow-fsync`: throughput while every fsync of the service and of PostgreSQL takes 0, 1 and 5 ms longer.

slow_fsync.c is compiled and preloaded into one control plane for each delay. The three are loaded in turn, so that other
load on the machine affects all of them.
"""

import os
import shutil
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]

from keyreeve_bench.control_planes import control_plane
from keyreeve_bench.scenarios.scenario import Figure, Place, ScenarioSkipped, ratio
from keyreeve_bench.scenarios.tool import Tool, closed

DELAYS_MS = (0, 1, 5)
IN_FLIGHT = 512
TARGETS = {"batch-100": 0.9, "unary-512": 0.8}
_DELAY = "BENCH_FSYNC_US"
_SOURCE = Path(__file__).parent.parent / "slow_fsync.c"


def run(place: Place) -> tuple[list[Figure], dict[str, Any]]:
    """Load three control planes in turn. Raises `keyreeve.errors`, and `ScenarioSkipped` without a compiler."""
    shim = compiled(place.directory)
    rates: dict[str, dict[int, list[float]]] = {kind: {delay: [] for delay in DELAYS_MS} for kind in TARGETS}
    p99: dict[str, dict[int, list[float]]] = {kind: {delay: [] for delay in DELAYS_MS} for kind in TARGETS}
    with ExitStack() as stack:
        tools: dict[int, Tool] = {}
        fsync_ms: dict[int, float] = {}
        for delay in DELAYS_MS:
            directory = place.directory / f"delay-{delay}"
            directory.mkdir()
            with preloaded(shim, delay):
                state_directory = stack.enter_context(control_plane(directory, place.database))
            tools[delay] = Tool(state_directory, directory)
            fsync_ms[delay] = measured_fsync_ms(shim, delay)
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
    for kind, target in TARGETS.items():
        medians = {delay: statistics.median(rates[kind][delay]) for delay in DELAYS_MS}
        figures += [Figure(f"{kind} at 0 ms", medians[0], "certificates/s")]
        figures += [
            Figure(f"{kind} at {delay} ms / at 0 ms", ratio(medians[delay], medians[0]), at_least=target)
            for delay in DELAYS_MS
            if delay
        ]
    # These figures prove that the preloaded library works; without it the ratios would be 1.
    figures += [
        Figure(f"fsync with {delay} ms added", fsync_ms[delay], "ms", at_least=float(delay)) for delay in DELAYS_MS
    ]
    of_service = sum(count for name, count in slowed.items() if name.startswith("kr-ca-"))
    figures.append(Figure("service processes with the library", float(of_service), at_least=3.0 * len(DELAYS_MS)))
    if place.database == "postgresql":
        figures.append(Figure("PostgreSQL processes with the library", float(slowed.get("postgres", 0)), at_least=3.0))
    return figures, {"rates": rates, "p99_ms": p99, "slowed_processes": slowed}


def compiled(directory: Path) -> Path:
    """Compile the library to preload. Raises `ScenarioSkipped`."""
    compiler = shutil.which("cc")
    if compiler is None:
        raise ScenarioSkipped("skipped: no `cc` to compile slow_fsync.c")
    library = directory / "slow_fsync.so"
    command = [compiler, "-O1", "-shared", "-fPIC", "-o", str(library), str(_SOURCE), "-ldl"]
    done = subprocess.run(command, check=False, capture_output=True)  # noqa: S603
    if done.returncode != 0:
        raise ScenarioSkipped(f"skipped: `cc` failed: {done.stderr.decode(errors='replace')}")
    library.chmod(0o755)  # PostgreSQL's user has to read it
    return library


@contextmanager
def preloaded(library: Path, delay_ms: int) -> Iterator[None]:
    """Preload the library into every process that is started meanwhile, and into their children."""
    os.environ |= {"LD_PRELOAD": str(library), _DELAY: str(delay_ms * 1000)}
    try:
        yield
    finally:
        for name in ("LD_PRELOAD", _DELAY):
            del os.environ[name]


def measured_fsync_ms(library: Path, delay_ms: int) -> float:
    """Measure an fsync of a process with the library, in milliseconds."""
    code = (
        "import sys; from pathlib import Path; from keyreeve_bench.disk import measure;"
        "print(measure(Path(sys.argv[1]), 1).fsync_us)"
    )
    with preloaded(library, delay_ms):
        done = subprocess.run([sys.executable, "-c", code, str(library.parent)], check=True, capture_output=True)  # noqa: S603
    return round(float(done.stdout) / 1000, 3)


def processes_with(library: Path) -> dict[str, int]:
    """Number of processes with the library, by process name."""
    found: dict[str, int] = {}
    for process in psutil.process_iter(["name"]):
        try:
            if str(library) in Path(f"/proc/{process.pid}/maps").read_text():
                found[process.info["name"]] = found.get(process.info["name"], 0) + 1
        except OSError:
            continue
    return found
