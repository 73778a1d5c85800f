"""A rate with a burst; the time is passed in."""


class TokenBucket:
    """A rate with a burst; the time is passed in."""

    __slots__ = ("_burst", "_left", "_per_second", "_then")

    def __init__(self, burst: float, per_second: float, now: float) -> None:
        """Take how many at one time after a pause, and how many a second for long."""
        self._burst = burst
        self._per_second = per_second
        self._left = burst
        self._then = now

    def take(self, now: float) -> bool:
        """Count one; False when there were too many."""
        if self.left(now) < 1:
            return False
        self._left -= 1
        return True

    def left(self, now: float) -> float:
        """Return how many there may be at once now."""
        self._left = min(self._burst, self._left + (now - self._then) * self._per_second)
        self._then = now
        return self._left

    def spend(self, amount: float, now: float) -> None:
        """Count what has happened already: there may then be less than nothing left."""
        self._left = self.left(now) - amount

    def wait(self, now: float) -> float:
        """Return the seconds until no more was spent than there was."""
        return max(0.0, -self.left(now) / self._per_second)

    def give_back(self, amount: float = 1.0) -> None:
        """Allow so much more."""
        self._left = min(self._burst, self._left + amount)

    def full(self, now: float) -> bool:
        """Whether nothing is missing."""
        return self.left(now) >= self._burst
