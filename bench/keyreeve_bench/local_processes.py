"""What processes of this machine cost: CPU time and resident memory of the service, the database and the clients."""

import os
from dataclasses import dataclass
from pathlib import Path

import psutil  # type: ignore[import-untyped]

from keyreeve.cli.local_services import SERVICES
from keyreeve.cli.processes import read_pid
from keyreeve.cli.state_directory import StateDirectory
from keyreeve.cli.supervisor import pid_file


@dataclass(frozen=True, slots=True)
class Usage:
    """CPU seconds that were used so far, and bytes that are resident now."""

    cpu_seconds: float
    rss_bytes: int
    pss_bytes: int = 0
    """The same with a page that n processes share counted as 1/n of it; 0 where it cannot be read."""


class Group:
    """A process and all below it, as they are when looked at; with a `word`, those that have it in their command line."""

    def __init__(self, pid: int, word: str | None = None) -> None:
        self._pid = pid
        self._word = word

    def processes(self) -> list[psutil.Process]:
        """The processes; empty when the first of them is gone."""
        try:
            first = psutil.Process(self._pid)
            found = [first, *first.children(recursive=True)]
        except psutil.Error:
            return []
        return [one for one in found if self._word is None or self._word in _command_line(one)]

    def only(self, word: str) -> "Group":
        """Those of the processes that have a word in their command line."""
        return Group(self._pid, word)

    def usage(self) -> Usage:
        """What they use; a process that has ended takes its share with it."""
        used = [_usage(process) for process in self.processes()]
        return Usage(
            sum(one.cpu_seconds for one in used), sum(one.rss_bytes for one in used), sum(one.pss_bytes for one in used)
        )


def server_group(state_directory: StateDirectory, pid: int | None) -> Group | None:
    """The service's processes: those of `pid`, else of the one that `keyreeve up` started; None when it is not here."""
    found = pid or read_pid(pid_file(state_directory, SERVICES[0]))
    return Group(found) if found is not None and psutil.pid_exists(found) else None


def postgresql_group(backend: int) -> Group | None:
    """All processes of the PostgreSQL server one of whose backends has this id; None when it runs elsewhere."""
    try:
        process = psutil.Process(backend)
        parent = process.parent()
        return Group(parent.pid) if "postgres" in process.name() and parent is not None else None
    except psutil.Error:
        return None


def machine() -> dict[str, object]:
    """What this machine is."""
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
