"""Limits on reads of secrets: a rate for each reader, and a count of the owners that each has read."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta

from keyreeve.errors import ReadRateExceeded

MOST_READERS = 10_000
"""Readers that are remembered; the one that has read least recently is forgotten first."""
WINDOW_SECONDS = 60.0


@dataclass(slots=True)
class _Reader:
    tokens: float
    filled_at: float
    began_at: float
    owners: set[str] = field(default_factory=set)
    alarmed: bool = False


class ReadLimits:
    """Counts the reads of one process."""

    def __init__(
        self,
        *,
        per_second: float,
        burst: int,
        unusual_owners: int,
        clock: Callable[[], float],
        unusual: Callable[[str, int], None],
    ) -> None:
        """`unusual` is told once in a minute of a reader of more than `unusual_owners` different owners in it."""
        self._per_second = per_second
        self._burst = burst
        self._unusual_owners = unusual_owners
        self._clock = clock
        self._unusual = unusual
        self._readers: OrderedDict[str, _Reader] = OrderedDict()

    def count(self, reader: str, owner: str) -> None:
        """Count one read. Raises `ReadRateExceeded`."""
        now = self._clock()
        known = self._readers.get(reader)
        if known is None:
            known = self._readers[reader] = _Reader(float(self._burst), now, now)
            if len(self._readers) > MOST_READERS:
                self._readers.popitem(last=False)
        self._readers.move_to_end(reader)
        known.tokens = min(float(self._burst), known.tokens + (now - known.filled_at) * self._per_second)
        known.filled_at = now
        if known.tokens < 1:
            raise ReadRateExceeded(
                f"{reader} reads more than {self._per_second:g} secrets in a second",
                retry_after=timedelta(seconds=(1 - known.tokens) / self._per_second),
            )
        known.tokens -= 1
        if now - known.began_at >= WINDOW_SECONDS:
            known.began_at, known.owners, known.alarmed = now, set(), False
        if len(known.owners) <= self._unusual_owners:
            known.owners.add(owner)
        if len(known.owners) > self._unusual_owners and not known.alarmed:
            known.alarmed = True
            self._unusual(reader, self._unusual_owners)

    def most_owners(self) -> int:
        """The most owners that one reader has read in the present minute."""
        now = self._clock()
        return max(
            (len(one.owners) for one in self._readers.values() if now - one.began_at < WINDOW_SECONDS), default=0
        )
