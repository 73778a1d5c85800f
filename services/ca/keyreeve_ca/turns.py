"""Turns on the signing path: calls that arrive close together are worked on together, and callers take turns.

A worker's event loop is handed calls one by one. Worked on one by one, each would pay for a commit and for waking several
processes; after a wait of a few milliseconds they share both. A call that arrives when nothing else goes on does not
wait at all. A turn takes from the callers in rotation, so that whoever sends most waits longest.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta

from keyreeve.errors import TooManyInFlight

MOST_CERTIFICATES = 64
"""In one turn: enough to share what they share, few enough to let the event loop breathe."""
MOST_IN_HAND = 2_048
"""Certificates that one process has in hand, waiting or under way: well below a second's work. A longer queue only makes
every call late."""
BUSY_SECONDS = 0.05
"""How long after a turn of several calls more are expected."""
TICK_SECONDS = 0.001
"""When nothing has come for so long, whoever is coming is there."""
RETRY_AFTER = timedelta(milliseconds=200)


@dataclass(slots=True)
class _Call:
    size: int
    let_in: "asyncio.Future[None]"


@dataclass(slots=True)
class Turns:
    """Lets calls in, several at once. Not frozen: it holds those that wait."""

    clock: Callable[[], float]
    """Seconds of any steady clock."""
    gather_seconds: float = 0.0
    """How long a call waits for company, at most, while calls keep coming."""
    most: int = MOST_IN_HAND
    """Certificates in hand at once; three quarters of them for one caller, so that there is room for the others."""
    _waiting: dict[str, deque[_Call]] = field(default_factory=dict)
    """By caller, in the order of their turns."""
    _in_hand: int = 0
    _in_hand_of: dict[str, int] = field(default_factory=dict)
    """Those of each caller."""
    _arrived: int = 0
    """Calls that have come, those refused too."""
    _seen: int = 0
    """How many that was at the last look."""
    _next: asyncio.Handle | None = None
    """The next look, turn, or end of a turn."""
    _gathered_at: float = 0.0
    """When those who wait are kept waiting for others no longer."""
    _busy_until: float = 0.0

    async def enter(self, caller: str, size: int) -> None:
        """Return when it is the turn of a call for `size` certificates. Raises `TooManyInFlight`, at once.

        `leave` must follow when this has returned.
        """
        self._arrived += 1
        theirs = self._in_hand_of.get(caller, 0)
        if self._in_hand + size > self.most or theirs + size > self.most * 3 // 4:
            raise TooManyInFlight(
                f"{self._in_hand} certificates are in hand here, {theirs} of them for you; no more are accepted now",
                metadata={"in_hand": str(self._in_hand), "yours": str(theirs)},
                retry_after=RETRY_AFTER,
            )
        self._in_hand += size
        self._in_hand_of[caller] = theirs + size
        try:
            await self._wait(caller, size)
        except BaseException:
            self.leave(caller, size)
            raise

    def leave(self, caller: str, size: int) -> None:
        """End a call that was let in."""
        self._in_hand -= size
        left = self._in_hand_of[caller] - size
        if left:
            self._in_hand_of[caller] = left
        else:
            del self._in_hand_of[caller]

    async def _wait(self, caller: str, size: int) -> None:
        loop = asyncio.get_running_loop()
        call = _Call(size, loop.create_future())
        self._waiting.setdefault(caller, deque()).append(call)
        if self._next is None:
            if self.clock() < self._busy_until:
                self._gather()
            else:
                self._next = loop.call_soon(self._begin)
        await call.let_in

    def _gather(self) -> None:
        self._gathered_at = self.clock() + self.gather_seconds
        self._seen = self._arrived
        self._next = asyncio.get_running_loop().call_later(min(self.gather_seconds, TICK_SECONDS), self._look)

    def _look(self) -> None:
        """Begin a turn, unless more calls are on their way."""
        if self._arrived == self._seen or self.clock() >= self._gathered_at:
            self._begin()
        else:
            self._seen = self._arrived
            self._next = asyncio.get_running_loop().call_later(TICK_SECONDS, self._look)

    def _begin(self) -> None:
        size, calls = 0, 0
        while self._waiting and size < MOST_CERTIFICATES:
            caller = next(iter(self._waiting))
            theirs = self._waiting.pop(caller)
            call = theirs.popleft()
            if theirs:
                self._waiting[caller] = theirs  # behind the others
            if not call.let_in.done():  # whoever has given up meanwhile is left out
                call.let_in.set_result(None)
                size, calls = size + call.size, calls + 1
        # Behind the calls that were let in: they do their work first.
        self._next = asyncio.get_running_loop().call_soon(self._end, calls > 1)

    def _end(self, several: bool) -> None:
        if several or self._waiting:
            self._busy_until = self.clock() + BUSY_SECONDS
        if self._waiting:
            self._gather()
        else:
            self._next = None
