"""Batching on the signing path: which requests are worked on together, and in which order of their callers.

A worker's event loop is handed requests one by one. Worked on one by one, each would pay for a commit and for waking several
processes; after a delay of a few milliseconds they share both. A request that arrives while nothing else is under way does
not wait. A batch takes requests from their callers in rotation, by certificates, so a heavy caller waits longest.

Beside a heavy caller, one that has nothing else here does not wait for a batch at all. That alone would not help: gRPC
hands requests over in the order of their arrival, so one behind a hundred of the heavy caller's is not seen before they
are. Therefore batches are small then, and between them the loop takes in what has arrived. It costs the heavy caller a
fourth of its throughput (bench/NOTES.md).
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from heapq import heappop, heappush
from typing import Final

MAX_BATCH = 64
"""Certificates: enough to share what they share, few enough to let the event loop breathe."""
HEAVY = 16
"""Certificates for each caller, on the average, from which on some caller is held to be heavy when another comes."""
PART = 4
"""Of a long request, by price, between two looks at what else there is: about 3 ms."""
PAUSES = 2
"""How long a long request pauses between two parts, in their length, when another caller has just come beside a heavy one."""
PAUSE_SECONDS = 0.1
"""How long after that caller's last request: the next one of a caller that makes one after the other comes sooner."""
UNEVEN_SECONDS = 5.0
"""How long after that batches are small."""
SMALL_BATCH = 4
"""Certificates, as `MAX_BATCH`."""
MAX_AHEAD = 4
"""Requests that go ahead of each batch because their callers have nothing else here: callers that ask for little each, but
are many, are batched."""
TAKE_IN_SECONDS = 0.05
"""How long requests are taken in between two small batches, at most."""
QUIET_TICKS = 2
"""Nothing has come for so many ticks: all that has arrived is taken in. One would be over before gRPC's own thread has run."""
BUSY_SECONDS = 0.05
"""How long after a batch of several requests more are expected."""
SHORT_TICK_SECONDS = 0.001
"""Between small batches: when nothing has come for so long, all is taken in. Else it is half of the longest delay."""

MAX_IN_PROGRESS: Final = 2_048
"""Of all requests in one process: well below a second's work. A longer queue only makes every call late."""
_UNIT_BYTES: Final = 1024
"""A certificate of one name takes 0.6 ms, one of 40 names (1.7 kB) 1.0 ms, one of 100 names (4 kB) 2.3 ms."""
_MOST: Final = MAX_IN_PROGRESS // 2
"""A request may always be made, if nothing else is in progress for its caller."""

Begun = asyncio.Future[None]


def price(sizes: Iterable[int]) -> int:
    """Return what a request of items with so many bytes counts, before it is parsed: 1 for each small one."""
    return min(sum(1 + size // _UNIT_BYTES for size in sizes), _MOST)


class Part:
    """The part of a long request that is worked on now; between two the event loop looks at what else there is."""

    def __init__(self, batching: "Batching") -> None:
        self._batching = batching
        self._began = batching.now()
        self._size = 0

    async def take(self, count: int) -> None:
        """Take an item with so many bytes; before one that would make the part too long, other work goes on."""
        size = price((count,))
        if self._size and self._size + size > PART:
            await self._batching.let_others_in(self._batching.now() - self._began)
            self._began, self._size = self._batching.now(), 0
        self._size += size


class Rotation:
    """Requests that wait, in the order of start-time fair queueing (Goyal, Vin, Cheng 1996): by certificates per caller."""

    def __init__(self) -> None:
        self._waiting: dict[str, deque[tuple[Begun, int]]] = {}
        self._order: list[tuple[int, int, str]] = []
        """Callers that wait as a heap, by what they have had and then by when they came."""
        self._had: dict[str, int] = {}
        """Certificates that a caller has had, on a scale that a new caller joins at `_reached`."""
        self._reached = 0
        self._pushed = 0
        self.size = 0
        """Certificates of the requests that wait."""

    def __bool__(self) -> bool:
        """Whether a request waits."""
        return bool(self._order)

    def push(self, caller: str, begun: Begun, size: int) -> None:
        """Add a request."""
        self.size += size
        if (theirs := self._waiting.get(caller)) is not None:
            theirs.append((begun, size))
        else:
            self._waiting[caller] = deque(((begun, size),))
            self._queue(caller, max(self._reached, self._had.get(caller, 0)))

    def pop(self) -> tuple[Begun, int]:
        """Take the next request; one that was given up has a future that is done."""
        had, _, caller = heappop(self._order)
        theirs = self._waiting[caller]
        begun, size = theirs.popleft()
        self.size -= size
        if not begun.done():
            self._reached, had = had, had + size
            self._had[caller] = had
        if theirs:
            self._queue(caller, had)
        else:
            del self._waiting[caller]
        return begun, size

    def forget(self) -> None:
        """Forget the callers that have had no more than a new one; call it now and then."""
        self._had = {caller: had for caller, had in self._had.items() if had > self._reached}

    def _queue(self, caller: str, had: int) -> None:
        self._pushed += 1
        heappush(self._order, (had, self._pushed, caller))


class Batching:
    """Begins batches, one after the other. `clock` is any steady clock, in seconds."""

    def __init__(self, clock: Callable[[], float], max_delay: float = 0.0) -> None:
        """Take how long a request waits for others, at most, while requests keep coming."""
        self._clock = clock
        self._max_delay = max_delay
        self._rotation = Rotation()
        self._here: dict[str, int] = {}
        """Certificates of each caller, of requests that wait or are worked on."""
        self._total = 0
        self._working = 0
        """Requests of this batch that are worked on."""
        self._several = False
        """Whether this batch has, or had, more than one request."""
        self._ahead = 0
        """Requests that have gone ahead since the last batch began."""
        self._idle = True
        """Nobody waits or is worked on, and no look or batch is to come."""
        self._timer: asyncio.TimerHandle | None = None
        """The next look at who waits."""
        self._arrived = self._seen = 0
        """Requests that have come, and how many that was at the last look."""
        self._quiet = 0
        """Ticks since a request came."""
        self._begin_at = 0.0
        """When those who wait are kept waiting for others no longer."""
        self._busy_until = self._uneven_until = self._pause_until = 0.0
        """Until when more requests are expected, until when batches are small, and until when long requests pause."""

    @asynccontextmanager
    async def join(self, caller: str, size: int) -> AsyncIterator[None]:
        """Enter when a batch begins with this request, of this price; the next begins once all have left.

        Only calculations belong inside: waiting for a commit would hold up everybody.
        """
        begun = self._arrive(caller, size)
        try:
            if begun is not None:
                await begun
            yield
        finally:
            self._leave(caller, size, begun)

    def now(self) -> float:
        """Return the time."""
        return self._clock()

    def part(self) -> Part:
        """Begin a long request."""
        return Part(self)

    async def let_others_in(self, spent: float) -> None:
        """Pause within a long request whose last part took so long."""
        self._ahead = 0
        await asyncio.sleep(PAUSES * spent if self._clock() < self._pause_until else 0)

    def _arrive(self, caller: str, size: int) -> Begun | None:
        """What the request has to wait for; None: nothing."""
        self._arrived += 1
        theirs = self._here.get(caller, 0)
        if not theirs and self._total > HEAVY * len(self._here):
            now = self._clock()
            self._uneven_until, self._pause_until = now + UNEVEN_SECONDS, now + PAUSE_SECONDS
        self._total += size
        self._here[caller] = theirs + size
        if not (self._idle or theirs) and size <= SMALL_BATCH and self._ahead < MAX_AHEAD:
            self._ahead += 1
            return None
        begun: Begun = asyncio.get_running_loop().create_future()
        self._rotation.push(caller, begun, size)
        if self._idle:
            self._idle = False
            self._schedule(gather=self._clock() < self._busy_until)
        elif self._timer is not None and self._is_full():
            self._timer.cancel()
            self._schedule(gather=False)
        return begun

    def _leave(self, caller: str, size: int, begun: Begun | None) -> None:
        self._total -= size
        left = self._here[caller] - size
        if left:
            self._here[caller] = left
        else:
            del self._here[caller]
        if begun is not None and begun.done() and not begun.cancelled():
            self._working -= 1
            if not self._working:
                self._end()

    def _is_full(self) -> bool:
        """A whole batch waits; between small batches others may be on their way."""
        return self._rotation.size >= MAX_BATCH and self._clock() >= self._uneven_until

    def _schedule(self, *, gather: bool) -> None:
        loop = asyncio.get_running_loop()
        if not gather or self._is_full():
            self._timer = None
            loop.call_soon(self._begin)
            return
        now = self._clock()
        self._begin_at = now + (TAKE_IN_SECONDS if now < self._uneven_until else self._max_delay)
        self._seen, self._quiet = self._arrived, 0
        self._timer = loop.call_later(self._tick(now), self._look)

    def _look(self) -> None:
        """Begin a batch, unless more requests are on their way."""
        now = self._clock()
        self._quiet = self._quiet + 1 if self._arrived == self._seen else 0
        if self._quiet >= (QUIET_TICKS if now < self._uneven_until else 1) or now >= self._begin_at:
            self._begin()
        else:
            self._seen = self._arrived
            self._timer = asyncio.get_running_loop().call_later(self._tick(now), self._look)

    def _tick(self, now: float) -> float:
        return SHORT_TICK_SECONDS if now < self._uneven_until else self._max_delay / 2

    def _begin(self) -> None:
        self._timer = None
        self._ahead = size = 0
        most = SMALL_BATCH if self._clock() < self._uneven_until else MAX_BATCH
        while self._rotation and size < most:
            begun, theirs = self._rotation.pop()
            if not begun.done():
                begun.set_result(None)
                self._working += 1
                size += theirs
        self._rotation.forget()
        self._several = self._working > 1
        if not self._working:
            self._end()

    def _end(self) -> None:
        waiting = bool(self._rotation)
        if self._several or waiting:
            self._busy_until = self._clock() + BUSY_SECONDS
        if waiting:
            self._schedule(gather=True)
        else:
            self._idle = True
