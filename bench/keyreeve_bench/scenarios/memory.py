"""`memory`: memory of the service's processes while they issue a few million certificates in batches.

Sampled every few seconds: resident (RSS) and proportional set size (PSS: a page shared by n processes counts as 1/n).
"""

import itertools
import statistics
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from keyreeve_bench.control_planes import control_plane
from keyreeve_bench.local_processes import Group
from keyreeve_bench.scenarios.scenario import Figure, Place, ScenarioSkipped
from keyreeve_bench.scenarios.tool import Tool, closed

MOST_MB = 400.0
FLAT_MB_PER_MILLION = 5.0
"""Growth up to which memory counts as constant: noise of the allocator."""
EVERY = 3.0
_STRETCH = 60.0
"""Seconds of one load, which bounds the client's own counters."""
_MOST_HOURS = 3


@dataclass(frozen=True, slots=True)
class Sample:
    """Memory at one time, in megabytes of 10^6."""

    certificates: int
    rss_mb: float
    pss_mb: float


@dataclass
class Sampler(threading.Thread):
    """Samples a group of processes until it is ended."""

    group: Group
    every: float = EVERY
    taken: list[tuple[float, float, float]] = field(default_factory=list)
    """Time on the monotonic clock, RSS, PSS."""

    def __post_init__(self) -> None:
        super().__init__(daemon=True)
        self._end = threading.Event()

    __hash__ = threading.Thread.__hash__

    def run(self) -> None:
        while True:
            used = self.group.usage()
            self.taken.append((time.monotonic(), used.rss_bytes / 1e6, used.pss_bytes / 1e6))
            if self._end.wait(self.every):
                return

    def end(self) -> None:
        """Take a last sample and stop."""
        self._end.set()
        self.join()


def run(place: Place) -> tuple[list[Figure], dict[str, Any]]:
    """Issue the certificates and report the samples. Raises `keyreeve.errors`."""
    with control_plane(place.directory, place.database) as state_directory:
        tool = Tool(state_directory, place.directory)
        sampler = Sampler(tool.server["server"], every=min(EVERY, max(0.2, place.duration / 5)))
        sampler.start()
        until = time.monotonic() + _MOST_HOURS * 3600
        began, done, rate = time.monotonic(), 0, 0.0
        points = [(began, 0)]
        try:
            while done < place.certificates and time.monotonic() < until:
                left = (place.certificates - done) / rate if rate else place.duration
                outcome = tool.go(tool.batches(*closed(min(_STRETCH, max(1.0, left)), 8)))[0]
                done, rate = done + outcome.acknowledged, outcome.measured.rate
                points.append((time.monotonic(), done))
                if not outcome.acknowledged:
                    break
        finally:
            sampler.end()
    samples = [Sample(_at(points, moment), round(rss, 1), round(pss, 1)) for moment, rss, pss in sampler.taken]
    half = [one for one in samples if one.certificates >= done / 2]
    slope = slope_per_million(half)
    figures = [
        Figure("certificates", float(done), at_least=float(place.certificates)),
        Figure("maximum of PSS", max(one.pss_mb for one in samples), "MB", at_most=MOST_MB),
        Figure("PSS at half", half[0].pss_mb, "MB"),
        Figure("PSS at the end", samples[-1].pss_mb, "MB"),
        Figure("growth of PSS over the last half", slope, "MB per million", at_most=FLAT_MB_PER_MILLION),
        Figure("maximum of RSS (shared pages count in each process)", max(one.rss_mb for one in samples), "MB"),
        Figure("RSS at the end", samples[-1].rss_mb, "MB"),
    ]
    if not samples[-1].pss_mb:
        raise ScenarioSkipped("skipped: the memory of the service cannot be read from here (smaps_rollup)")
    took = points[-1][0] - began
    details = {
        "certificates": done,
        "seconds_of_load": round(took, 1),
        "samples": [[one.certificates, one.rss_mb, one.pss_mb] for one in _thinned(samples)],
    }
    return figures, details


def slope_per_million(samples: Sequence[Sample]) -> float | None:
    """Growth of PSS in megabytes per million certificates, by least squares; None for fewer than two counts."""
    counts = [one.certificates / 1e6 for one in samples]
    if len(set(counts)) < 2:
        return None
    return round(statistics.linear_regression(counts, [one.pss_mb for one in samples]).slope, 2)


def _at(points: Sequence[tuple[float, int]], moment: float) -> int:
    """Number of certificates at a time, by linear interpolation."""
    for (t0, n0), (t1, n1) in itertools.pairwise(points):
        if moment <= t1:
            return n0 + round((n1 - n0) * max(0.0, moment - t0) / (t1 - t0))
    return points[-1][1]


def _thinned(samples: list[Sample]) -> list[Sample]:
    return samples[:: max(1, len(samples) // 200)]
