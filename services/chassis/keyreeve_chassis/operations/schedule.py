"""Which operation has the next step."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from keyreeve_chassis.operations.ports import Operation


@dataclass(frozen=True)
class Schedule:
    """Gives steps to methods in turn, and within a method to the oldest operation.

    After a step its method rests as long as the step asked for. Only an operation that is waiting for something lets younger
    ones of its method pass. One that is to be cancelled is served at once.
    """

    clock: Callable[[], float]
    _served: list[str] = field(default_factory=list)
    """Methods, the one served last at the end."""
    _last: dict[str, tuple[str, float]] = field(default_factory=dict)
    """By method: the operation of its last step, and until when the method rests after it."""
    _looked_at: dict[str, float] = field(default_factory=dict)
    """By operation: until when it rests, if it is waiting."""

    def pick(self, running: Sequence[Operation]) -> Operation | None:
        """The operation whose turn it is; `running` is not empty, and the oldest comes first."""
        now = self.clock()
        candidates = self._candidates(running, now)
        due = [(self._rank(one.method), one.operation_id, one) for at, one in candidates if at <= now]
        return min(due)[-1] if due else None

    def seconds(self, running: Sequence[Operation]) -> float:
        """How long until it is anybody's turn."""
        now = self.clock()
        return min(at for at, _ in self._candidates(running, now)) - now

    def rest(self, operation: Operation, seconds: float) -> None:
        """Note that the operation has had a step, and how long its method rests after it."""
        until = self.clock() + seconds
        self._last[operation.method] = (operation.operation_id, until)
        self._looked_at[operation.operation_id] = until
        if operation.method in self._served:
            self._served.remove(operation.method)
        self._served.append(operation.method)

    def forget(self, running: Iterable[Operation]) -> None:
        """Forget the operations that no longer run."""
        names = {one.operation_id for one in running}
        for ended in self._looked_at.keys() - names:
            del self._looked_at[ended]

    def _candidates(self, running: Sequence[Operation], now: float) -> list[tuple[float, Operation]]:
        """Of each method the operation that comes next, and when it may have its step."""
        waiting = {one.operation_id for one in running if one.waiting}
        found: dict[str, tuple[float, Operation]] = {}
        for one in running:
            at = max(now, self._due(one, waiting))
            if one.method not in found or at < found[one.method][0]:
                found[one.method] = (at, one)
        return list(found.values())

    def _due(self, operation: Operation, waiting: set[str]) -> float:
        if operation.cancel_requested:
            return 0.0
        last, until = self._last.get(operation.method, ("", 0.0))
        rested = 0.0 if last in waiting else until
        return max(rested, self._looked_at.get(operation.operation_id, 0.0)) if operation.waiting else rested

    def _rank(self, method: str) -> int:
        return self._served.index(method) if method in self._served else -1
