"""When a bench does what: phases that follow each other without a gap. Times are seconds of the monotonic clock."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Phase:
    """A stretch of time under one load. In flight and rate are this process's share."""

    name: str
    seconds: float
    in_flight: int
    rate: float | None = None
    """Calls per second of an open loop; None: a closed loop, in which a call follows the one before."""
    offset: float = 0.0
    """Where in the gap between two calls of an open loop this process begins, from 0 to 1: processes take turns."""
    start: float = field(default=0.0, init=False)
    taken: int = field(default=0, init=False)

    @property
    def end(self) -> float:
        return self.start + self.seconds

    def next_due(self) -> float:
        """When the next call of the open loop is due; beyond `end` when there is none left."""
        assert self.rate is not None
        due = self.start + (self.taken + self.offset) / self.rate
        if due < self.end:
            self.taken += 1
        return due

    @property
    def unsent(self) -> int:
        """Calls of the open loop that were due but never begun, since everything was still in flight."""
        if self.rate is None:
            return 0
        return max(0, int(self.seconds * self.rate - self.offset) - self.taken)


class Timeline:
    """The phases from a start on."""

    def __init__(self, phases: Sequence[dict[str, Any]], start: float) -> None:
        self.phases = [Phase(**phase) for phase in phases]
        for phase in self.phases:
            phase.start = start
            start = phase.end
        self._current = 0

    def at(self, now: float) -> Phase | None:
        """The phase of a moment; None after the last one. Moments are asked for in order."""
        while self._current < len(self.phases):
            phase = self.phases[self._current]
            if now < phase.end:
                return phase
            self._current += 1
        return None
