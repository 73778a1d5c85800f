"""Turns on the signing path: calls that arrive close together are worked on together, and callers take turns.

A worker's event loop is handed calls one by one. Worked on one by one, each would pay for a commit and for waking several
processes; after a wait of a few milliseconds they share both. A call that arrives when nothing else goes on does not
wait at all. A turn takes from the callers in rotation, by certificates, so that whoever asks for most waits longest.

Beside a greedy caller, whoever has nothing else in hand does not wait for a turn at all. That alone would not help: gRPC
hands calls over in the order of their arrival, one in a few passes of the event loop, so a call behind a hundred of
somebody else's is not seen before they are. Therefore turns are short then, and between them the loop takes in what has
arrived. It costs the greedy one a fourth of its throughput (bench/NOTES.md).
"""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from heapq import heappop, heappush

from keyreeve.errors import TooManyInFlight

MOST_CERTIFICATES = 64
"""In one turn: enough to share what they share, few enough to let the event loop breathe."""
GREEDY = 16
"""Certificates in hand for each caller, on the average, from which on some caller is held to be greedy when another comes."""
UNEVEN_SECONDS = 5.0
"""How long after that turns are short."""
MOST_IN_SHORT_TURN = 4
"""Certificates, as `MOST_CERTIFICATES`; the greedy one's next call beside that of another waits this long only."""
MOST_AHEAD = 4
"""Calls let in before each turn because their callers have nothing else in hand: callers that ask for little each, but are
many, are worked on together."""
TAKE_IN_SECONDS = 0.05
"""How long calls are taken in between two short turns, at most."""
QUIET_TICKS = 2
"""Nothing has come for so many ticks: all that has arrived is taken in. One would be over before gRPC's own thread has run."""
MOST_IN_HAND = 2_048
"""Certificates that one process has in hand, waiting or under way: well below a second's work. A longer queue only makes
every call late."""
BUSY_SECONDS = 0.05
"""How long after a turn of several calls more are expected."""
EXPECTED_DECAY = 0.99
"""What is left, after each turn, of the most certificates that were in hand lately: callers come and go."""
SHORT_TICK_SECONDS = 0.001
"""When nothing has come for so long, whoever is coming is there; between short turns. Else it is half of `gather_seconds`."""
RETRY_AFTER = timedelta(milliseconds=200)


@dataclass(slots=True, eq=False)
class Turn:
    """The place of one call in the rotation."""

    caller: str
    size: int
    let_in: "asyncio.Future[None]"
    working: bool = False


@dataclass(slots=True)
class Turns:
    """Lets calls in, several at once. Not frozen: it holds those that wait."""

    clock: Callable[[], float]
    """Seconds of any steady clock."""
    gather_seconds: float = 0.0
    """How long a call waits for company, at most, while calls keep coming."""
    most: int = MOST_IN_HAND
    """Certificates in hand at once; three quarters of them for one caller, so that there is room for the others."""
    _waiting: dict[str, deque[Turn]] = field(default_factory=dict)
    """By caller."""
    _order: list[tuple[int, int, str]] = field(default_factory=list)
    """Those who wait as a heap, by `_had` and then by when they came: start-time fair queueing (Goyal, Vin, Cheng 1996)."""
    _had: dict[str, int] = field(default_factory=dict)
    """How many certificates each caller with something in hand has had, on a scale that whoever comes joins at `_reached`."""
    _reached: int = 0
    """Where on that scale the last one let in was."""
    _queued: int = 0
    """Entries that `_order` has had."""
    _in_hand: int = 0
    _in_hand_of: dict[str, int] = field(default_factory=dict)
    """Those of each caller."""
    _arrived: int = 0
    """Calls that have come, those refused too."""
    _seen: int = 0
    """How many that was at the last look."""
    _idle: bool = True
    """Nobody waits or works, and no look or turn is to come."""
    _working: int = 0
    """Calls of this turn that have not done their work."""
    _several: bool = False
    """Whether this turn has, or had, more than one call."""
    _quiet: int = 0
    """Ticks since a call came."""
    _uneven_until: float = 0.0
    """Until when turns are short."""
    _ahead: int = 0
    """Calls let in ahead of those that wait, since the last turn began."""
    _refused: bool = False
    """Whether a call was refused since the last turn began."""
    _wait_for_turn: int = 0
    """Certificates of the calls that wait."""
    _expected: float = 0.0
    """The most certificates that were in hand lately. Once so many are again, nobody else is expected and nobody waits."""
    _look_to_come: "asyncio.TimerHandle | None" = None
    _gathered_at: float = 0.0
    """When those who wait are kept waiting for others no longer."""
    _busy_until: float = 0.0

    async def enter(self, caller: str, size: int) -> Turn:
        """Return when it is the turn of a call for `size` certificates. Raises `TooManyInFlight`, at once.

        `worked` should follow when it has done its part of the turn's work, and `leave` must when it ends.
        """
        self._arrived += 1
        self.refuse_beyond(caller, size)
        theirs = self._in_hand_of.get(caller, 0)
        if not theirs and self._in_hand > GREEDY * len(self._in_hand_of):
            self._uneven_until = self.clock() + UNEVEN_SECONDS
        self._in_hand += size
        self._in_hand_of[caller] = theirs + size
        turn = Turn(caller, size, asyncio.get_running_loop().create_future())
        if not (self._idle or theirs) and size <= MOST_IN_SHORT_TURN and self._ahead < MOST_AHEAD:
            self._ahead += 1
            return turn
        try:
            await self._wait(turn)
        except BaseException:
            self.leave(turn)
            raise
        return turn

    def refuse_beyond(self, caller: str, size: int) -> None:
        """Raise `TooManyInFlight` if a call for `size` certificates would be refused now: before more is spent on it."""
        theirs = self._in_hand_of.get(caller, 0)
        if self._in_hand + size > self.most or theirs + size > self.most * 3 // 4:
            self._refused = True
            raise TooManyInFlight(
                f"{self._in_hand} certificates are in hand here, {theirs} of them for you; no more are accepted now",
                metadata={"in_hand": str(self._in_hand), "yours": str(theirs)},
                retry_after=RETRY_AFTER,
            )

    def worked(self, turn: Turn) -> None:
        """Let the next turn begin once all of this one have said so: what is left of the call is waiting.

        One turn's calculations at a time: if each of many batches took its steps between those of all the others, the event
        loop would take a second to see a new call, and to refuse it.
        """
        if turn.working:
            turn.working = False
            self._working -= 1
            if not self._working:
                self._end()

    def leave(self, turn: Turn) -> None:
        """End a call."""
        self.worked(turn)
        self._in_hand -= turn.size
        left = self._in_hand_of[turn.caller] - turn.size
        if left:
            self._in_hand_of[turn.caller] = left
        else:
            del self._in_hand_of[turn.caller]
            self._had.pop(turn.caller, None)

    async def _wait(self, turn: Turn) -> None:
        self._wait_for_turn += turn.size
        if (theirs := self._waiting.get(turn.caller)) is None:
            self._waiting[turn.caller] = deque((turn,))
            self._queue(turn.caller, max(self._reached, self._had.get(turn.caller, 0)))
        else:
            theirs.append(turn)
        if self._idle:
            self._idle = False
            if self.clock() < self._busy_until:
                self._gather()
            else:
                asyncio.get_running_loop().call_soon(self._begin)
        elif self._look_to_come is not None and self._all_here(self.clock()):
            self._look_to_come.cancel()
            self._look_to_come = None
            asyncio.get_running_loop().call_soon(self._begin)
        await turn.let_in

    def _gather(self) -> None:
        now = self.clock()
        if self._all_here(now):
            asyncio.get_running_loop().call_soon(self._begin)
            return
        self._gathered_at = now + (TAKE_IN_SECONDS if now < self._uneven_until else self.gather_seconds)
        self._seen, self._quiet = self._arrived, 0
        self._look_to_come = asyncio.get_running_loop().call_later(self._tick(now), self._look)

    def _all_here(self, now: float) -> bool:
        """A whole turn waits, or nobody else is expected.

        Not between short turns, where others may be on their way, nor when there are too many: those must be refused soon.
        """
        enough = self._wait_for_turn >= MOST_CERTIFICATES or self._in_hand >= self._expected
        return enough and not self._refused and now >= self._uneven_until

    def _look(self) -> None:
        """Begin a turn, unless more calls are on their way."""
        now = self.clock()
        self._quiet = self._quiet + 1 if self._arrived == self._seen else 0
        if self._quiet >= (QUIET_TICKS if now < self._uneven_until else 1) or now >= self._gathered_at:
            self._begin()
        else:
            self._seen = self._arrived
            self._look_to_come = asyncio.get_running_loop().call_later(self._tick(now), self._look)

    def _tick(self, now: float) -> float:
        return SHORT_TICK_SECONDS if now < self._uneven_until else self.gather_seconds / 2

    def _queue(self, caller: str, had: int) -> None:
        self._queued += 1
        heappush(self._order, (had, self._queued, caller))

    def _begin(self) -> None:
        size = self._ahead = 0
        self._refused = False
        self._look_to_come = None
        self._expected = max(self._expected * EXPECTED_DECAY, self._in_hand)
        most = MOST_IN_SHORT_TURN if self.clock() < self._uneven_until else MOST_CERTIFICATES
        while self._order and size < most:
            had, _, caller = heappop(self._order)
            theirs = self._waiting[caller]
            turn = theirs.popleft()
            self._wait_for_turn -= turn.size
            if not turn.let_in.done():  # whoever has given up meanwhile is left out
                turn.let_in.set_result(None)
                turn.working = True
                self._working += 1
                size += turn.size
                self._reached, had = had, had + turn.size
                self._had[caller] = had
            if theirs:
                self._queue(caller, had)
            else:
                del self._waiting[caller]
        self._several = self._working > 1
        if not self._working:
            self._end()

    def _end(self) -> None:
        if self._several or self._waiting:
            self._busy_until = self.clock() + BUSY_SECONDS
        if self._waiting:
            self._gather()
        else:
            self._idle = True
