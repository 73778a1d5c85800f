"""Back-off after failed logins, for each source and account. No I/O."""

from collections import OrderedDict
from collections.abc import Callable

FIRST_SECONDS = 0.25
MOST_SECONDS = 16.0
FORGET_SECONDS = 900.0
MOST_PAIRS = 10_000
"""Pairs that are remembered; the oldest is forgotten first."""

Pair = tuple[str, str]
"""Address of a source, name of an account."""


class Backoff:
    """How long a login waits for its answer: twice as long after each failure, and not at all after a success.

    The failures of one source delay no other one, and those for one account no other account.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        """Take a clock, in seconds."""
        self._clock = clock
        self._failures: OrderedDict[Pair, tuple[int, float]] = OrderedDict()

    def delay(self, pair: Pair) -> float:
        """Seconds that an attempt waits before it is looked at."""
        failures, last = self._failures.get(pair, (0, 0.0))
        if not failures or self._clock() - last > FORGET_SECONDS:
            return 0.0
        return min(FIRST_SECONDS * 2.0 ** (failures - 1), MOST_SECONDS)

    def failed(self, pair: Pair) -> None:
        """Note a failure."""
        failures, last = self._failures.pop(pair, (0, 0.0))
        now = self._clock()
        self._failures[pair] = (1 if now - last > FORGET_SECONDS else min(failures + 1, 64), now)
        if len(self._failures) > MOST_PAIRS:
            self._failures.popitem(last=False)

    def succeeded(self, pair: Pair) -> None:
        """Forget the failures."""
        self._failures.pop(pair, None)
