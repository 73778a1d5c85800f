"""When a failed call is worth repeating, and after how long. Arithmetic alone: no clock, no sleep.

Every call may be repeated, since mutations carry a request id. What is repeated is what may pass by itself: UNAVAILABLE,
and RESOURCE_EXHAUSTED when the service says how long to wait. ABORTED is never repeated: somebody has to read first.
"""

from collections.abc import Callable
from dataclasses import dataclass

from keyreeve.errors import KeyreeveError


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Exponential back-off with full jitter; all times in seconds."""

    attempts: int = 6
    """How often a call is tried at most; a wait that the service itself asked for does not count."""
    initial: float = 0.1
    """Longest wait before the second attempt."""
    maximum: float = 5.0
    """Longest wait before any."""
    multiplier: float = 2.0

    def ceiling(self, failures: int) -> float:
        """Longest wait after so many failures, counted from 1."""
        # The exponent is capped: a stream that is reopened for weeks would overflow a float.
        return min(self.maximum, self.initial * self.multiplier ** min(failures - 1, 32))


NO_RETRY = RetryPolicy(attempts=1)
"""Try once."""


def is_transient(error: KeyreeveError) -> bool:
    """Whether the same call may succeed later without anybody changing anything."""
    return error.code == "UNAVAILABLE" or (error.code == "RESOURCE_EXHAUSTED" and error.retry_after is not None)


class Backoff:
    """The waits of one call. `random` gives numbers from 0 up to 1."""

    def __init__(self, policy: RetryPolicy, random: Callable[[], float]) -> None:
        self._policy = policy
        self._random = random
        self._failures = 0
        self._unguided = 0

    def delay(self, error: KeyreeveError, remaining: float) -> float | None:
        """Seconds to wait before the next attempt; None: give up, since it is hopeless, enough, or too late.

        `remaining` is the time that the caller has left: a wait that would use it up is not begun.
        """
        if not is_transient(error):
            return None
        self._failures += 1
        delay = self._policy.ceiling(self._failures) * self._random()
        if error.retry_after is None:
            self._unguided += 1
            if self._unguided >= self._policy.attempts:
                return None
        elif self._policy.attempts == 1:
            return None
        else:
            # Jitter on top, never below: all who were told the same time would come back in the same instant.
            delay += max(0.0, error.retry_after.total_seconds())
        return delay if delay < remaining else None
