"""The rate of log lines, of each source and of all: what a peer causes must not roll a log away."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from keyreeve_chassis.token_bucket import TokenBucket

SOURCE = "_source"
"""The key of an event that names the source of its line, or is None for a line that is always written."""
BURST = 50
PER_SECOND = 5
"""Lines of one source for long: about 1 kB/s."""
BURST_OF_ALL = 1000
"""More than any service writes while it starts."""
PER_SECOND_OF_ALL = 100
KEPT_FROM_CALLS = 500
"""Of the burst of all: calls of many methods leave as many lines to other sources."""
_MOST_SOURCES = 1000
_OTHERS = "others"
"""All sources beyond the most that are counted one by one."""


@dataclass(slots=True)
class _Source:
    bucket: TokenBucket
    omitted: int = 0


class LineLimit:
    """Counts the lines of one process. Any thread may ask."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Take the clock."""
        self._clock = clock
        self._lock = threading.Lock()
        self._all = TokenBucket(BURST_OF_ALL, PER_SECOND_OF_ALL, clock())
        self._of: dict[str, _Source] = {}

    def admit(self, source: str, *, keep: int = 0) -> int | None:
        """Count a line; None: it is not written. Otherwise how many of its source were left out before it.

        `keep` lines of all sources together are left for others.
        """
        with self._lock:
            now = self._clock()
            known = self._of.get(source)
            if known is None:
                name = source if len(self._of) < _MOST_SOURCES else _OTHERS
                known = self._of.setdefault(name, _Source(TokenBucket(BURST, PER_SECOND, now)))
            if self._all.left(now) < keep + 1 or not known.bucket.take(now) or not self._all.take(now):
                known.omitted += 1
                return None
            omitted, known.omitted = known.omitted, 0
            return omitted
