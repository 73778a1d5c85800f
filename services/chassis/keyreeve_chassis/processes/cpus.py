"""The CPUs that this process may use."""

import math
import os
from pathlib import Path

CPU_MAX = Path("/sys/fs/cgroup/cpu.max")


def usable_cpus(cpu_max: Path = CPU_MAX) -> int:
    """CPUs that this process may run on, within its control group's `cpu.max`; at least 1."""
    return max(1, math.ceil(min(len(os.sched_getaffinity(0)), cpu_quota(cpu_max))))


def cpu_quota(cpu_max: Path = CPU_MAX) -> float:
    """CPU time that the control group allows, in CPUs; infinite without a limit."""
    try:
        most, period = cpu_max.read_text().split()
        return int(most) / int(period)
    except (OSError, ValueError):  # no control group, version 1, or "max"
        return math.inf
