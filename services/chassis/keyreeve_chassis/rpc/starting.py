"""In which order calls begin that have arrived together."""

import asyncio
from collections import deque
from collections.abc import Hashable

MOST_STARTS = 16
"""Calls that begin between two looks at the sockets: one that is refused takes 0.1 to 0.2 ms, most others more."""


class Starts:
    """Lets calls begin in rotation over their callers: one that comes behind hundreds of another caller's does not wait for them.

    Without it a turn of the event loop would begin all that has arrived: thousands from a caller with many connections.
    """

    def __init__(self, most: int = MOST_STARTS) -> None:
        """Take how many begin in one turn of the event loop."""
        self._most = most
        self._begun = 0
        self._waiting: dict[Hashable, deque[asyncio.Future[None]]] = {}
        """Calls of each caller; the first caller is next."""
        self._ticking = False
        self._loop = asyncio.get_running_loop()

    def next(self, caller: Hashable) -> "asyncio.Future[None] | None":
        """Return what a call waits for before it begins; None: it begins at once."""
        if not self._ticking:
            self._ticking = True
            self._loop.call_soon(self._tick)
        if self._begun < self._most and not self._waiting:
            self._begun += 1
            return None
        turn: asyncio.Future[None] = self._loop.create_future()
        self._waiting.setdefault(caller, deque()).append(turn)
        return turn

    def _tick(self) -> None:
        self._begun = 0
        while self._waiting and self._begun < self._most:
            caller = next(iter(self._waiting))
            theirs = self._waiting.pop(caller)
            turn = theirs.popleft()
            if not turn.done():
                turn.set_result(None)
                self._begun += 1
            if theirs:
                self._waiting[caller] = theirs
        self._ticking = self._begun > 0
        if self._ticking:
            self._loop.call_soon(self._tick)
