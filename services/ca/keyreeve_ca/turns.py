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
    """How long a call waits for company while calls keep coming."""
    most: int = MOST_IN_HAND
    """Certificates in hand at once; three quarters of them for one caller, so that there is room for the others."""
    _waiting: dict[str, deque[_Call]] = field(default_factory=dict)
    """By caller, in the order of their turns."""
    _size: int = 0
    """Certificates that the waiting calls ask for."""
    _in_hand: int = 0
    _in_hand_of: dict[str, int] = field(default_factory=dict)
    """Those of each caller."""
    _next: asyncio.Handle | None = None
    """The next turn, when there is one; a timer while it may still be brought forward."""
    _busy_until: float = 0.0

    async def enter(self, caller: str, size: int) -> None:
        """Return when it is the turn of a call for `size` certificates. Raises `TooManyInFlight`, at once.

        `leave` must follow when this has returned.
        """
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
        self._size += size
        if self._next is None and self._size < MOST_CERTIFICATES and self.clock() < self._busy_until:
            self._next = loop.call_later(self.gather_seconds, self._begin)
        elif self._next is None:
            self._next = loop.call_soon(self._begin)
        elif self._size >= MOST_CERTIFICATES and isinstance(self._next, asyncio.TimerHandle):
            self._next.cancel()
            self._next = loop.call_soon(self._begin)
        await call.let_in

    def _begin(self) -> None:
        size, calls = 0, 0
        while self._waiting and size < MOST_CERTIFICATES:
            caller = next(iter(self._waiting))
            theirs = self._waiting.pop(caller)
            call = theirs.popleft()
            self._size -= call.size
            if theirs:
                self._waiting[caller] = theirs  # behind the others
            if not call.let_in.done():  # whoever has given up meanwhile is left out
                call.let_in.set_result(None)
                size, calls = size + call.size, calls + 1
        if calls > 1 or self._waiting:
            self._busy_until = self.clock() + BUSY_SECONDS
        # Behind the calls that were let in, which run first.
        self._next = asyncio.get_running_loop().call_soon(self._begin) if self._waiting else None
