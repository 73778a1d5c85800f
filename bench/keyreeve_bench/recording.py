"""Counters of one client process, and their sum over all processes.

Latencies are appended to an array during the run, which is cheaper than updating a histogram, and converted to an HDR
histogram afterwards: three significant digits from a microsecond to ten minutes.
"""

from array import array
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Self

from hdrh.histogram import HdrHistogram  # type: ignore[import-untyped]

MOST_MICROSECONDS = 600_000_000
DIGITS = 3
PERCENTILES = {"p50": 50.0, "p90": 90.0, "p99": 99.0, "p999": 99.9}


class Counts:
    """Counters of one phase in one process."""

    def __init__(self, seconds: float) -> None:
        self.certificates = 0
        self.calls = 0
        self.latencies = array("L")
        self.refusals = array("L")
        self.errors: Counter[tuple[str, str]] = Counter()
        self.per_second = array("L", bytes(array("L").itemsize * max(1, round(seconds))))
        self.slowest_per_second = array("L", bytes(array("L").itemsize * max(1, round(seconds))))

    def answered(self, certificates: int, seconds: float, since_start: float) -> None:
        """Count a call answered after `seconds`, `since_start` seconds into the phase."""
        micros = int(seconds * 1e6)
        self.calls += 1
        self.certificates += certificates
        self.latencies.append(micros)
        second = min(int(since_start), len(self.per_second) - 1)
        self.per_second[second] += certificates
        self.slowest_per_second[second] = max(self.slowest_per_second[second], micros)

    def failed(self, status: str, reason: str, certificates: int, seconds: float) -> None:
        """Count a failed call or a failed item of a batch."""
        self.errors[status, reason] += certificates
        if status == "RESOURCE_EXHAUSTED":
            self.refusals.append(int(seconds * 1e6))

    def to_document(self, unsent: int) -> dict[str, Any]:
        """JSON values for the parent process; histograms in the compressed form of HdrHistogram."""
        return {
            "certificates": self.certificates,
            "calls": self.calls,
            "latencies": _encoded(self.latencies),
            "refusals": _encoded(self.refusals),
            "microseconds": sum(self.latencies),
            "errors": [[status, reason, count] for (status, reason), count in self.errors.items()],
            "per_second": list(self.per_second),
            "slowest_per_second": list(self.slowest_per_second),
            "unsent": unsent,
        }


def _histogram() -> HdrHistogram:
    return HdrHistogram(1, MOST_MICROSECONDS, DIGITS)


@dataclass
class Tally:
    """Totals of one or more phases over all processes."""

    seconds: float = 0.0
    certificates: int = 0
    calls: int = 0
    microseconds: int = 0
    unsent: int = 0
    errors: Counter[tuple[str, str]] = field(default_factory=Counter)
    latencies: HdrHistogram = field(default_factory=_histogram)
    refusals: HdrHistogram = field(default_factory=_histogram)
    per_second: list[int] = field(default_factory=list)
    slowest_per_second: list[int] = field(default_factory=list)

    @classmethod
    def of(cls, seconds: float, documents: Iterable[dict[str, Any]]) -> Self:
        """Sum the counters of processes that ran during the same `seconds`."""
        tally = cls(seconds=seconds)
        for document in documents:
            tally.certificates += document["certificates"]
            tally.calls += document["calls"]
            tally.microseconds += document["microseconds"]
            tally.unsent += document["unsent"]
            tally.errors.update({(status, reason): count for status, reason, count in document["errors"]})
            tally.latencies.decode_and_add(document["latencies"])
            tally.refusals.decode_and_add(document["refusals"])
            tally.per_second = _summed(tally.per_second, document["per_second"])
            slowest = [
                max(pair) for pair in zip(tally.slowest_per_second, document["slowest_per_second"], strict=False)
            ]
            tally.slowest_per_second = slowest or document["slowest_per_second"]
        return tally

    def then(self, other: "Tally") -> None:
        """Add the totals of another period."""
        self.seconds += other.seconds
        self.certificates += other.certificates
        self.calls += other.calls
        self.microseconds += other.microseconds
        self.unsent += other.unsent
        self.errors.update(other.errors)
        self.latencies.add(other.latencies)
        self.refusals.add(other.refusals)
        self.per_second += other.per_second
        self.slowest_per_second += other.slowest_per_second

    @property
    def rate(self) -> float:
        """Certificates per second."""
        return self.certificates / self.seconds if self.seconds else 0.0

    @property
    def mean_ms(self) -> float:
        """Mean latency of answered calls, in milliseconds."""
        return self.microseconds / self.calls / 1000 if self.calls else 0.0

    def latency_ms(self) -> dict[str, float]:
        """Percentiles, maximum and mean latency of answered calls, in milliseconds."""
        return percentiles_ms(self.latencies) | {"mean": round(self.mean_ms, 3)}


def percentiles_ms(histogram: HdrHistogram) -> dict[str, float]:
    """Reported percentiles and the maximum, in milliseconds; zeros when nothing was recorded."""
    values = {name: histogram.get_value_at_percentile(share) for name, share in PERCENTILES.items()}
    return {name: round(value / 1000, 3) for name, value in (values | {"max": histogram.get_max_value()}).items()}


def _encoded(microseconds: "array[int]") -> str:
    histogram = _histogram()
    for value, count in Counter(microseconds).items():
        histogram.record_value(min(max(value, 1), MOST_MICROSECONDS), count)
    encoded: bytes = histogram.encode()
    return encoded.decode()


def _summed(one: list[int], other: list[int]) -> list[int]:
    return [a + b for a, b in zip(one, other, strict=True)] if one else list(other)
