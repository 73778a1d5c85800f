"""Timeline of a load: consecutive phases. Times are seconds of the monotonic clock."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Phase:
    """A period with one load. `in_flight` and `rate` are this process's share."""

    name: str
    seconds: float
    in_flight: int
    rate: float | None = None
    """Calls per second of an open loop; None: closed loop."""
    offset: float = 0.0
    """Offset of this process within the interval of an open loop, from 0 to 1, so that processes interleave."""
    start: float = field(default=0.0, init=False)
    taken: int = field(default=0, init=False)

    @property
    def end(self) -> float:
        return self.start + self.seconds

    def next_due(self) -> float:
        """Time of the open loop's next call; after `end` when there is none."""
        assert self.rate is not None
        due = self.start + (self.taken + self.offset) / self.rate
        if due < self.end:
            self.taken += 1
        return due

    @property
    def unsent(self) -> int:
        """Calls of the open loop that were due but not started, because all slots were in flight."""
        if self.rate is None:
            return 0
        return max(0, int(self.seconds * self.rate - self.offset) - self.taken)


class Timeline:
    """The phases from a start time on."""

    def __init__(self, phases: Sequence[dict[str, Any]], start: float) -> None:
        self.phases = [Phase(**phase) for phase in phases]
        for phase in self.phases:
            phase.start = start
            start = phase.end
        self._current = 0

    def at(self, now: float) -> Phase | None:
        """The phase at a time; None after the last one. Times must not decrease from call to call."""
        while self._current < len(self.phases):
            phase = self.phases[self._current]
            if now < phase.end:
                return phase
            self._current += 1
        return None
