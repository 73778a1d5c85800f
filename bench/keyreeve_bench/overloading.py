"""Overload at the end of `keyreeve bench sign`: three times the capacity, then normal load."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from keyreeve_bench.recording import Tally, percentiles_ms
from keyreeve_bench.session import MEASURED, WARM_UP, Step
from keyreeve_bench.settings import BenchSettings

FACTOR = 3
AFTER = "after"
AFTER_SECONDS = 6.0
NORMAL = 0.9
"""Share of the capacity that counts as recovered."""
_OPEN_LOOP_IN_FLIGHT = 512


def steps(settings: BenchSettings, capacity: float) -> list[Step]:
    """Normal load, overload, normal load, without a pause.

    The overload of single calls is three times as many calls in flight; that of batches is an open loop at three times the
    capacity (certificates per second), because a closed loop cannot offer more than is answered.
    """
    assert settings.overload is not None
    normal = settings.in_flight
    if settings.batch == 1:
        over = Step(MEASURED, settings.overload, normal * FACTOR)
    else:
        rate = capacity * FACTOR / settings.batch
        over = Step(MEASURED, settings.overload, max(normal * FACTOR, _OPEN_LOOP_IN_FLIGHT), rate)
    return [Step(WARM_UP, max(settings.warm_up, 1.0), normal), over, Step(AFTER, AFTER_SECONDS, normal)]


@dataclass(frozen=True, slots=True)
class Overload:
    """Results of an overload."""

    capacity: float
    during: Tally
    after: Tally

    def to_document(self) -> dict[str, Any]:
        """JSON values: goodput in certificates per second and relative to the capacity, times in milliseconds."""
        return {
            "goodput_per_second": round(self.during.rate, 1),
            "goodput_to_capacity": round(self.during.rate / self.capacity, 3) if self.capacity else None,
            "latency_ms": self.during.latency_ms(),
            "refused": sum(
                count for (status, _), count in self.during.errors.items() if status == "RESOURCE_EXHAUSTED"
            ),
            "refusals_ms": percentiles_ms(self.during.refusals),
            "not_sent_calls": self.during.unsent,
            "errors": [[status, reason, count] for (status, reason), count in self.during.errors.most_common()],
            "normal_after_seconds": normal_after(self.after.per_second, self.capacity),
            "after_by_second": self.after.per_second,
            "after_slowest_ms_by_second": [round(micros / 1000, 3) for micros in self.after.slowest_per_second],
        }


def normal_after(per_second: Sequence[int], capacity: float) -> int | None:
    """Whole seconds until the throughput has recovered; None when it did not."""
    return next((second for second, count in enumerate(per_second) if count >= capacity * NORMAL), None)
