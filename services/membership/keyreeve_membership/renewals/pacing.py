"""A budget for peer certificates: the servers whose certificates end first come first; no I/O."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta

from keyreeve import errors
from keyreeve_membership.roll.digests import sha256

_URGENT_SECONDS = 86_400
"""A server with less life left than this is never sent away."""
_LONGEST_RETRY_SECONDS = 30


@dataclass(frozen=True)
class Pace:
    """Certificates per second in one process; a burst of so many seconds' worth is allowed."""

    per_second: float
    clock: Callable[[], float]
    """Seconds, monotonic."""
    burst_seconds: float = 5.0
    _full_at: list[float] = field(default_factory=lambda: [0.0])
    """When the budget is whole again."""

    def admit(self, member: str, remaining_seconds: float) -> None:
        """Take one certificate out of the budget. Raises `RenewalPaced` with the time after which to come back.

        With half of the budget used, servers with the longest remaining life wait first.
        """
        now = self.clock()
        used = max(0.0, self._full_at[0] - now)
        share = used / self.burst_seconds
        if share >= 0.5 and remaining_seconds > _URGENT_SECONDS * (1 + 6 * max(0.0, 1 - share)):
            spread = 1 + int.from_bytes(sha256(member.encode())[:4]) % _LONGEST_RETRY_SECONDS
            raise errors.RenewalPaced(
                f"{member} has time: certificates of other servers end first",
                retry_after=timedelta(seconds=spread),
                metadata={"member": member},
            )
        self._full_at[0] = max(now, self._full_at[0]) + 1 / self.per_second
