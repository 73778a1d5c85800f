"""How many processes can run at once on this machine."""

import math
import os
from pathlib import Path

CPU_MAX = Path("/sys/fs/cgroup/cpu.max")


def usable_cpus(cpu_max: Path = CPU_MAX) -> int:
    """CPUs that this process may run on, within what its control group allows (`cpu.max` of cgroup v2); at least 1."""
    return max(1, math.ceil(min(len(os.sched_getaffinity(0)), cpu_quota(cpu_max))))


def cpu_quota(cpu_max: Path = CPU_MAX) -> float:
    """CPUs' worth of time that the control group allows; infinite where it sets no limit."""
    try:
        most, period = cpu_max.read_text().split()
        return int(most) / int(period)
    except (OSError, ValueError):  # no control group, version 1, or "max"
        return math.inf
