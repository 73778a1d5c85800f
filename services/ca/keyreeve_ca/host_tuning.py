"""What kind of machine this is, measured at the start, and what the signing path makes of it.

Machines differ most in what it costs to wake a thread on another core (a few microseconds, or 15 to a hundred under
hypervisors) and in what a write to disk costs. Where waking is dear, each worker is kept on one core, and calls wait
longer for company. Uses nothing but the standard library: the parent of the processes imports it.
"""

import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

FILE = "machine.json"
"""In the run directory: the last measurement, of the present boot."""
DEAR_WAKE = 10e-6
"""Seconds from which on waking another core is dear: at 15 us single calls are a third more with what is chosen for it."""
_ROUNDS = 200
_SYNCS = 20
_MOST_SECONDS = 0.25
"""Of one measurement; there are three."""
_ECHO = """
import os, sys
os.sched_setaffinity(0, {int(sys.argv[1])})
while octet := os.read(0, 1):
    os.write(1, octet)
"""
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_CPU_MAX = Path("/sys/fs/cgroup/cpu.max")


@dataclass(frozen=True, slots=True)
class Machine:
    """What was measured, in seconds. `boot` tells whether it still holds."""

    boot: str
    cores: tuple[int, ...]
    """Those that this process may run on."""
    quota: float
    """Cores' worth of time that it may use."""
    wake_same: float
    """From a write to a socket until its reader runs, on the same core; 0 with one core, where nothing is to be chosen."""
    wake_other: float
    """The same with the reader on another core."""
    fsync: float
    """One write of 4 KiB and its fdatasync, where the state is."""

    @property
    def workers(self) -> int:
        """How many worker processes `workers: auto` is: one for each core that can be used."""
        return max(1, math.ceil(min(len(self.cores), self.quota)))


@dataclass(frozen=True, slots=True)
class Choice:
    """How the workers run."""

    pinned: bool
    """Each worker is kept on one core."""
    gather: float
    """Seconds for which a call waits for company while calls keep coming."""

    def core_of(self, machine: Machine, index: int) -> int | None:
        """The core of a worker; None: any."""
        return machine.cores[index % len(machine.cores)] if self.pinned else None


def choose(machine: Machine, *, pin: Literal["auto", "on", "off"], gather_ms: float | Literal["auto"]) -> Choice:
    """What fits the machine, unless the settings say otherwise.

    Nothing is pinned under a quota that is less than the cores: such cores belong to others as well.
    """
    dear = machine.wake_other >= DEAR_WAKE and machine.wake_other >= 2 * machine.wake_same
    whole = len(machine.cores) > 1 and machine.quota >= len(machine.cores)
    pinned = (dear and whole) if pin == "auto" else pin == "on"
    gather = (0.008 if dear else 0.002) if gather_ms == "auto" else gather_ms / 1000
    return Choice(pinned, gather)


def machine(run_directory: Path) -> Machine:
    """The machine as measured since it was booted, measured now if need be: takes less than a second."""
    cores, quota = tuple(sorted(os.sched_getaffinity(0))), _quota()
    try:
        boot = _BOOT_ID.read_text().strip()
    except OSError:
        boot = ""
    known = read(run_directory)
    if known is not None and boot and (known.boot, known.cores, known.quota) == (boot, cores, quota):
        return known
    measured = Machine(
        boot,
        cores,
        quota,
        wake_same=_wake(cores[0], cores[0]) if len(cores) > 1 else 0.0,
        wake_other=_wake(cores[0], cores[1]) if len(cores) > 1 else 0.0,
        fsync=_fsync(run_directory),
    )
    (run_directory / FILE).write_text(json.dumps(asdict(measured)))
    return measured


def read(run_directory: Path) -> Machine | None:
    """The last measurement, or None where there is none that can be read."""
    try:
        found: Mapping[str, object] = json.loads((run_directory / FILE).read_text())
        return Machine(**{**found, "cores": tuple(found["cores"])})  # type: ignore[arg-type]  # checked by its use
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _quota() -> float:
    """Cores' worth of time that the control group allows (cpu.max of the kernel's cgroup-v2 documentation)."""
    try:
        most, period = _CPU_MAX.read_text().split()
        return int(most) / int(period)
    except (OSError, ValueError):  # no control group, another kind, or "max"
        return math.inf


def _wake(here: int, there: int) -> float:
    """Half of a round trip between two processes, each on its core."""
    before = os.sched_getaffinity(0)
    with subprocess.Popen(  # noqa: S603 - our own program
        [sys.executable, "-I", "-S", "-c", _ECHO, str(there)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
    ) as echo:
        assert echo.stdin is not None
        assert echo.stdout is not None
        os.sched_setaffinity(0, {here})
        try:
            taken: list[float] = []
            while len(taken) < 2 or (len(taken) < _ROUNDS and sum(taken) < _MOST_SECONDS):
                sent = time.perf_counter()
                echo.stdin.write(b".")
                if not echo.stdout.read(1):
                    return 0.0  # it may not run there, so there is nothing to choose
                taken.append(time.perf_counter() - sent)
        finally:
            os.sched_setaffinity(0, before)
    return statistics.median(taken[1:]) / 2  # the first waited for the other's start


def _fsync(directory: Path) -> float:
    with tempfile.TemporaryFile(dir=directory, buffering=0) as file:
        taken: list[float] = []
        while len(taken) < _SYNCS and sum(taken) < _MOST_SECONDS:
            before = time.perf_counter()
            file.write(b"\x00" * 4096)
            os.fdatasync(file.fileno())
            taken.append(time.perf_counter() - before)
        return statistics.median(taken)
