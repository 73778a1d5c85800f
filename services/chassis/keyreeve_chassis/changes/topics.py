"""The topics that the followers of one process wait for, and how long a wait lasts at most.

A follower learns right after a commit that something of its topic may have changed, and reads it. Notifications save
reads and nothing depends on them: while they are not known to work, a wait lasts `poll_seconds`; while they are, it lasts
`safety_seconds`, should one get lost unnoticed.
"""

import asyncio
import math
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from keyreeve_chassis.database.ports import Wait

POLL_SECONDS = 0.25
"""How late a change is seen at most without notifications."""
SAFETY_SECONDS = 5.0
"""The longest wait with notifications: a connection that is dead without being closed loses some (ADR 20: up to 6 s)."""


class Topics:
    """Counts the changes of each topic that this process hears of. Made in the event loop that its followers run in."""

    def __init__(
        self,
        *,
        notified: bool,
        poll_seconds: float = POLL_SECONDS,
        safety_seconds: float = SAFETY_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`notified` says whether every change is announced here from the start; see `begin_notified`."""
        self.poll_seconds = poll_seconds
        self.clock = clock
        self._safety_seconds = safety_seconds
        self._notified = notified
        self._generation = 0
        self._counts: dict[str, int] = {}
        self._changed = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def announce(self, topics: Iterable[str]) -> None:
        """Say that something of these topics may have changed. May be called in any thread."""
        changed = tuple(topics)
        with suppress(RuntimeError):  # the loop has ended, and with it every follower
            self._loop.call_soon_threadsafe(self.bump, changed)

    def bump(self, topics: Iterable[str]) -> None:
        """`announce` in the event loop."""
        for topic in topics:
            self._counts[topic] = self._counts.get(topic, 0) + 1
        self._wake()

    def renew(self) -> None:
        """Have every follower read: changes may have been missed."""
        self._generation += 1
        self._wake()

    def begin_notified(self) -> None:
        """Every change of every process is announced here from now on."""
        if not self._notified:
            self._notified = True
            self.renew()

    def end_notified(self) -> None:
        """Changes may come without being announced here, until `begin_notified`."""
        if self._notified:
            self._notified = False
            self._wake()

    @property
    def notified(self) -> bool:
        """Whether every change is announced here, as far as is known."""
        return self._notified

    @property
    def generation(self) -> int:
        """Rises when changes of any topic may have been missed."""
        return self._generation

    @property
    def longest_wait(self) -> float:
        """Seconds after which a follower reads though it has heard of no change."""
        return self._safety_seconds if self._notified else self.poll_seconds

    @property
    def counts(self) -> Mapping[str, int]:
        """How many changes of each topic were announced here."""
        return self._counts

    def version(self, topics: Iterable[str]) -> tuple[int, ...]:
        """A value that differs after a change of any of the topics."""
        return (self._generation, *(self._counts.get(topic, 0) for topic in topics))

    async def changed(self) -> None:
        """Return after the next announcement of any topic, or change of `longest_wait`."""
        await self._changed.wait()

    def follower(self, *topics: str) -> Wait:
        """A wait for one follower: until something of the topics may have changed since it last returned.

        It returns at once the first time: what was read before it was made may be old.
        """
        return _Follower(self, topics)

    def _wake(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()


@dataclass
class _Follower:
    """A `Wait`. Not frozen: it remembers what it has told its follower."""

    _topics: Topics
    _followed: tuple[str, ...]
    _seen: tuple[int, ...] = ()
    _read_at: float = field(default=-math.inf)
    """When its follower was last told to read."""

    async def __call__(self, seconds: float) -> bool:
        topics = self._topics
        end = topics.clock() + seconds
        while topics.version(self._followed) == self._seen:
            read_at = self._read_at + topics.longest_wait
            try:
                async with asyncio.timeout(min(end, read_at) - topics.clock()):
                    await topics.changed()
            except TimeoutError:
                if end < read_at:
                    return False
                break
        else:
            # Changes in quick succession are reported together, so that there are never more reads than by polling.
            read_at = self._read_at + topics.poll_seconds
            await asyncio.sleep(max(0.0, min(end, read_at) - topics.clock()))
            if end < read_at:
                return False
        self._seen = topics.version(self._followed)
        self._read_at = topics.clock()
        return True
