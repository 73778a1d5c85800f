"""CPU time and memory of local processes: the service, the database and the clients."""

import os
from dataclasses import dataclass
from pathlib import Path

import psutil  # type: ignore[import-untyped]

from keyreeve.cli.supervision.local_services import SERVICES
from keyreeve.cli.supervision.processes import read_pid
from keyreeve.cli.supervision.state_directory import StateDirectory
from keyreeve.cli.supervision.supervisor import pid_file


@dataclass(frozen=True, slots=True)
class Usage:
    """CPU seconds used so far and bytes resident now."""

    cpu_seconds: float
    rss_bytes: int
    pss_bytes: int = 0
    """Proportional set size: a page shared by n processes counts as 1/n; 0 when it cannot be read."""


class Group:
    """A process and its current descendants; with `word`, those with this word in their command line."""

    def __init__(self, pid: int, word: str | None = None) -> None:
        self._pid = pid
        self._word = word

    def processes(self) -> list[psutil.Process]:
        """The live processes; empty when the first of them has ended."""
        try:
            first = psutil.Process(self._pid)
            found = [first, *first.children(recursive=True)]
        except psutil.Error:
            return []
        return [one for one in found if self._word is None or self._word in _command_line(one)]

    def only(self, word: str) -> "Group":
        """The processes of the group with a word in their command line."""
        return Group(self._pid, word)

    def usage(self) -> Usage:
        """Sum over the live processes; what an ended process used is not included."""
        used = [_usage(process) for process in self.processes()]
        return Usage(
            sum(one.cpu_seconds for one in used), sum(one.rss_bytes for one in used), sum(one.pss_bytes for one in used)
        )


def server_group(state_directory: StateDirectory, pid: int | None) -> Group | None:
    """The service's processes, below `pid` or the manager that `keyreeve up` started; None when not local."""
    found = pid or read_pid(pid_file(state_directory, SERVICES[0]))
    return Group(found) if found is not None and psutil.pid_exists(found) else None


def postgresql_group(backend: int) -> Group | None:
    """Processes of the PostgreSQL server that has a backend with this pid; None when it is not local."""
    try:
        process = psutil.Process(backend)
        parent = process.parent()
        return Group(parent.pid) if "postgres" in process.name() and parent is not None else None
    except psutil.Error:
        return None


def machine() -> dict[str, object]:
    """Describe this machine."""
    return {
        "cores": os.cpu_count() or 1,
        "cpu": _cpu_model(),
        "memory_bytes": psutil.virtual_memory().total,
        "system": f"{os.uname().sysname} {os.uname().release}",
        "load_before": round(os.getloadavg()[0], 2),
    }


def _cpu_model() -> str:
    try:
        with open("/proc/cpuinfo") as file:  # noqa: PTH123
            return next((line.partition(":")[2].strip() for line in file if line.startswith("model name")), "")
    except OSError:
        return ""


def _usage(process: psutil.Process) -> Usage:
    try:
        with process.oneshot():
            times = process.cpu_times()
            return Usage(times.user + times.system, process.memory_info().rss, _pss(process.pid))
    except psutil.Error:
        return Usage(0.0, 0)


def _pss(pid: int) -> int:
    """Proportional set size in bytes (smaps_rollup of Linux, in units of 1,024)."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text("ascii")
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in text.splitlines() if line.startswith("Pss:")), 0)


def _command_line(process: psutil.Process) -> list[str]:
    try:
        words: list[str] = process.cmdline()
    except psutil.Error:
        return []
    return words
