"""Measures how long an fsync takes in a directory, and identifies its disk."""

import os
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import psutil  # type: ignore[import-untyped]

_BLOCK = bytes(4096)
_MOST = 500


@dataclass(frozen=True, slots=True)
class Disk:
    """The disk of a directory; times in microseconds."""

    path: str
    device: str
    file_system: str
    fsync_us: float
    """Median of a write of 4 KiB and its fsync."""
    fsync_p99_us: float


def measure(directory: Path, seconds: float) -> Disk:
    """Append and fsync in the directory for a number of seconds. Raises `OSError` when it cannot be written."""
    times: list[float] = []
    until = time.perf_counter() + seconds
    with tempfile.TemporaryFile(dir=directory) as file:
        handle = file.fileno()
        while len(times) < _MOST and (begun := time.perf_counter()) < until:
            os.write(handle, _BLOCK)
            os.fsync(handle)
            times.append(time.perf_counter() - begun)
    times.sort()
    device, kind = _mount_of(directory)
    p99 = times[min(len(times) - 1, len(times) * 99 // 100)]
    return Disk(str(directory), device, kind, round(statistics.median(times) * 1e6, 1), round(p99 * 1e6, 1))


def _mount_of(directory: Path) -> tuple[str, str]:
    """Device and type of the file system of a directory."""
    resolved = directory.resolve()
    best = ("", "", "")
    for part in psutil.disk_partitions(all=True):
        if resolved.is_relative_to(part.mountpoint) and len(part.mountpoint) >= len(best[0]):
            best = (part.mountpoint, part.device, part.fstype)
    return best[1], best[2]
