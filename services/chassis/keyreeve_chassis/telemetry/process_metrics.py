"""The `process_*` metrics of every process of one instance, told apart by the label `process`.

The processes of a service share most of their memory (docs/adr/0016), so their resident memory is not added up. A service of
one process shows that process; one of several shows its manager and the manager's children, whichever of them is asked.
"""

import os
from collections.abc import Iterable
from pathlib import Path

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

_PROC = Path("/proc")
_FAMILIES: tuple[tuple[str, str, type[CounterMetricFamily | GaugeMetricFamily]], ...] = (
    ("process_cpu_seconds", "User and system CPU time spent, in seconds.", CounterMetricFamily),
    ("process_resident_memory_bytes", "Resident memory; pages that processes share count in each.", GaugeMetricFamily),
    ("process_virtual_memory_bytes", "Virtual memory.", GaugeMetricFamily),
    ("process_start_time_seconds", "Start of the process, in seconds since 1970.", GaugeMetricFamily),
    ("process_open_fds", "Open file descriptors.", GaugeMetricFamily),
    ("process_max_fds", "The most file descriptors that it may open.", GaugeMetricFamily),
)
_PARENT, _USER_TIME, _SYSTEM_TIME, _START, _VIRTUAL, _RESIDENT = 1, 11, 12, 19, 20, 21
"""Fields of /proc/PID/stat (proc(5)) after the process's name."""
_LONG_ROLES = ("fork_server", "coordinator")
"""The kernel keeps 15 characters of a name."""


class ServiceProcesses(Collector):
    """Reads /proc at each scrape; a process that ends meanwhile is left out."""

    def __init__(self, proc: Path = _PROC, own_id: int | None = None, *, managed: bool = False) -> None:
        """Take this process; `managed`: its parent is the process manager of the service."""
        self._proc, self._own_id, self._managed = proc, own_id or os.getpid(), managed
        self._ticks, self._page = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGESIZE")

    def collect(self) -> Iterable[Metric]:
        """One sample of each family for each process."""
        families = [kind(name, text, labels=("process",)) for name, text, kind in _FAMILIES]
        booted = self._boot_time()
        for process_id in self._process_ids():
            try:
                name, fields = self._stat(process_id)
            except (OSError, ValueError):
                continue
            values = (
                (int(fields[_USER_TIME]) + int(fields[_SYSTEM_TIME])) / self._ticks,
                int(fields[_RESIDENT]) * self._page,
                int(fields[_VIRTUAL]),
                None if booted is None else booted + int(fields[_START]) / self._ticks,
                self._open_files(process_id),
                self._most_files(process_id),
            )
            for family, value in zip(families, values, strict=True):
                if value is not None:
                    family.add_metric((name,), value)
        return families

    def _process_ids(self) -> list[int]:
        if not self._managed:
            return [self._own_id]
        try:
            manager = int(self._stat(self._own_id)[1][_PARENT])
        except (OSError, ValueError):
            return [self._own_id]
        return [manager, *(one for one in self._all() if self._is_child(one, manager))]

    def _all(self) -> list[int]:
        return sorted(int(one) for one in os.listdir(self._proc) if one.isdecimal())  # noqa: PTH208 - names alone

    def _is_child(self, process_id: int, parent: int) -> bool:
        try:
            return int(self._stat(process_id)[1][_PARENT]) == parent
        except (OSError, ValueError):
            return False

    def _stat(self, process_id: int) -> tuple[str, list[str]]:
        """A process's role, such as `worker-0` of `kr-ca-worker-0`, and the fields after its name."""
        text = (self._proc / str(process_id) / "stat").read_text(errors="replace")
        name, _, fields = text.partition("(")[2].rpartition(") ")
        if not self._managed:
            return "solo", fields.split()
        role = name.split("-", 2)[-1] if name.startswith("kr-") else name
        return next((one for one in _LONG_ROLES if one.startswith(role)), role), fields.split()

    def _boot_time(self) -> int | None:
        try:
            lines = (self._proc / "stat").read_text().splitlines()
        except OSError:
            return None
        return next((int(line.split()[1]) for line in lines if line.startswith("btime ")), None)

    def _open_files(self, process_id: int) -> int | None:
        try:
            return len(os.listdir(self._proc / str(process_id) / "fd"))  # noqa: PTH208 - names alone
        except OSError:  # a sandbox may not let it
            return None

    def _most_files(self, process_id: int) -> float | None:
        try:
            lines = (self._proc / str(process_id) / "limits").read_text().splitlines()
        except OSError:
            return None
        found = next((line.split()[3] for line in lines if line.startswith("Max open files")), None)
        return None if found is None else float(found.replace("unlimited", "inf"))
