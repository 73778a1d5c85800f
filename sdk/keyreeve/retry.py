"""Which failed calls are repeated, and after how long. Pure: no clock, no sleep.

Every call may be repeated, since mutations carry a request id. Transient failures are: UNAVAILABLE, and
RESOURCE_EXHAUSTED with a delay from the service. ABORTED is never repeated: the caller has to read first.
"""

from collections.abc import Callable
from dataclasses import dataclass

from keyreeve.errors import KeyreeveError


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Exponential back-off with full jitter; all times in seconds."""

    attempts: int = 6
    """Maximum number of attempts; those after a delay that the service asked for do not count."""
    initial: float = 0.1
    """Longest wait before the second attempt."""
    maximum: float = 5.0
    """Longest wait before any."""
    multiplier: float = 2.0

    def ceiling(self, failures: int) -> float:
        """The longest wait after a number of failures, counted from 1."""
        # The exponent is capped: a stream that is reopened for weeks would overflow a float.
        return min(self.maximum, self.initial * self.multiplier ** min(failures - 1, 32))


NO_RETRY = RetryPolicy(attempts=1)
"""A single attempt."""


def is_transient(error: KeyreeveError) -> bool:
    """Whether the same call may succeed later although nothing is changed."""
    return error.code == "UNAVAILABLE" or (error.code == "RESOURCE_EXHAUSTED" and error.retry_after is not None)


class Backoff:
    """The waits between the attempts of one call.

    `random` returns numbers from 0 up to 1.
    """

    def __init__(self, policy: RetryPolicy, random: Callable[[], float]) -> None:
        self._policy = policy
        self._random = random
        self._failures = 0
        self._unguided = 0

    def delay(self, error: KeyreeveError, remaining: float) -> float | None:
        """Return the seconds to wait before the next attempt.

        None when there is to be none.

        `remaining` is the caller's remaining time: a wait as long as that is useless.
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
            # Jitter is added to it: all clients that got the same delay would come back in the same instant.
            delay += max(0.0, error.retry_after.total_seconds())
        return delay if delay < remaining else None
