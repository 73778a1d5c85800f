"""Calls of `sign` that wait at the same time, put together into `SignCertificates`.

A call that finds nothing under way goes out by itself. While something is, others gather: for `GATHER_SECONDS` at most
as long as there is room for another batch, and beyond that until a batch ends. So a lone caller loses nothing, and the
batches grow with the load.

A batch has one request id, which the SDK keeps through its own repeats, so that whoever waits gets what was signed for
it once. Whatever a batch refuses is asked for again by itself: nothing was signed for it, and the answer to a single
call is then exactly that, error for error.
"""

import copy
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from functools import partial
from typing import Final

from keyreeve import wire
from keyreeve._async import runtime
from keyreeve._async.calls import Caller
from keyreeve.ca.v1 import certificate_service_pb2 as pb
from keyreeve.errors import KeyreeveError
from keyreeve.request_ids import new_request_id
from keyreeve.retry import is_transient
from keyreeve.values import SignedCertificate

SIGN: Final = "/keyreeve.ca.v1.CertificateService/SignCertificate"
SIGN_MANY: Final = "/keyreeve.ca.v1.CertificateService/SignCertificates"

MOST_ITEMS: Final = 100
"""In one batch: the contract's limit."""
MOST_BYTES: Final = 1 << 20
"""Of one batch: half of what a service reads unless told otherwise."""
MOST_ITEM_BYTES: Final = 1 << 16
"""A larger request goes by itself, so that it does not use up the room of many."""
MOST_IN_FLIGHT: Final = 4
"""Batches of one client at once: enough to keep the service busy while answers are read, few enough to grow."""
GATHER_SECONDS: Final = 0.002
"""How long a call waits at most for others while there is room for another batch."""

_REFUSALS: Final = frozenset(
    {
        "INVALID_ARGUMENT",
        "FAILED_PRECONDITION",
        "NOT_FOUND",
        "ALREADY_EXISTS",
        "PERMISSION_DENIED",
        "UNAUTHENTICATED",
        "OUT_OF_RANGE",
        "UNIMPLEMENTED",
        "RESOURCE_EXHAUSTED",
    }
)
"""Codes of an answer after which it is certain that nothing was signed."""


class _Instead(Enum):
    """What a call may be told in place of a certificate or an error."""

    ALONE = auto()
    """Ask by yourself."""


_Key = tuple[str, str]
_Outcome = SignedCertificate | Exception | _Instead


@dataclass(slots=True, eq=False)
class _Waiting:
    """One call that waits: what it wants, until when (on the client's clock), and where its caller is told."""

    item: pb.SignCertificateItem
    size: int
    deadline: float
    ticket: runtime.Ticket[_Outcome]


class Coalescer:
    """Signs for many callers at once; safe for threads."""

    def __init__(self, caller: Caller, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._caller = caller
        self._clock = clock
        self._state = threading.Lock()  # guards what follows; never held while waiting
        self._busy = 0
        self._queues: dict[_Key, deque[_Waiting]] = {}
        """By profile and authority, longest untouched first: only one authority signs a batch. None is empty."""
        self._gathering: runtime.Ticket[bool] | None = None

    async def sign(self, item: pb.SignCertificateItem, timeout: float | None) -> SignedCertificate:
        """Sign one item, with others if there are any; at most `timeout` seconds (the client's own unless given)."""
        seconds = self._caller.timeout if timeout is None else timeout
        deadline = self._clock() + seconds
        size = item.ByteSize()
        if size > MOST_ITEM_BYTES:
            return await self.sign_alone(item, new_request_id(), seconds)
        waiting: _Waiting | None = None
        if self._takes_idle():
            try:
                await runtime.let_others_come()
                if not self._queues:
                    return await self.sign_alone(item, new_request_id(), seconds)
                waiting = self._enqueue(item, size, deadline)
            finally:
                self._end_turn()
        waiting = waiting or self._enqueue(item, size, deadline)
        outcome = await waiting.ticket.wait(deadline - self._clock())
        if outcome is None:
            raise self._caller.deadline_passed()
        if outcome is _Instead.ALONE:
            return await self.sign_alone(item, new_request_id(), deadline - self._clock())
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async def sign_alone(
        self, item: pb.SignCertificateItem, request_id: str, timeout: float | None
    ) -> SignedCertificate:
        """Sign one item in a call of its own."""
        request = pb.SignCertificateRequest(item=item, request_id=request_id)
        return wire.from_signed(await self._caller.unary(SIGN, request, pb.SignCertificateResponse, timeout))

    # --- Turns: what is under way, and who waits for it ---------------------------------------------------------------

    def _takes_idle(self) -> bool:
        with self._state:
            if self._busy or self._queues:
                return False
            self._busy = 1
            return True

    def _end_turn(self) -> None:
        with self._state:
            self._busy -= 1
            if self._gathering is not None:
                self._gathering.settle(True)
            elif self._queues:
                self._gather(at_once=True)

    def _enqueue(self, item: pb.SignCertificateItem, size: int, deadline: float) -> _Waiting:
        waiting = _Waiting(item, size, deadline, runtime.Ticket())
        with self._state:
            queue = self._queues.setdefault((item.profile, item.authority), deque())
            queue.append(waiting)
            full = len(queue) >= MOST_ITEMS
            if self._gathering is None:
                if self._busy < MOST_IN_FLIGHT:
                    self._gather(at_once=full)
            elif full:
                self._gathering.settle(True)
        return waiting

    def _gather(self, *, at_once: bool) -> None:
        """Begin the next batch, with `_state` held; it is closed after a moment, when it is full, or when a turn ends."""
        gathering: runtime.Ticket[bool] = runtime.Ticket()
        if at_once:
            gathering.settle(True)
        try:
            runtime.spawn(partial(self._serve, gathering), "keyreeve-signing")
        except RuntimeError:  # no more threads: then nobody waits for others
            self._tell_all(_Instead.ALONE)
        else:
            self._gathering = gathering

    def _close_batch(self) -> list[_Waiting]:
        """Take the next batch and a turn for it."""
        with self._state:
            self._gathering = None
            self._busy += 1
            batch = self._take()
            if self._queues and self._busy < MOST_IN_FLIGHT:
                self._gather(at_once=len(next(iter(self._queues.values()))) >= MOST_ITEMS)
        return batch

    def _take(self) -> list[_Waiting]:
        batch: list[_Waiting] = []
        room = MOST_BYTES
        while self._queues and not batch:  # a queue may hold only calls whose callers have left
            key = next(iter(self._queues))
            queue = self._queues.pop(key)
            while queue and len(batch) < MOST_ITEMS and queue[0].size <= room:
                waiting = queue.popleft()
                if waiting.ticket.open:
                    batch.append(waiting)
                    room -= waiting.size
            if queue:
                self._queues[key] = queue
        return batch

    # --- One batch ----------------------------------------------------------------------------------------------------

    async def _serve(self, gathering: runtime.Ticket[bool]) -> None:
        try:
            await gathering.wait(GATHER_SECONDS)
        except BaseException:
            self._give_up()
            raise
        batch = self._close_batch()
        try:
            if batch:
                await self._sign(batch)
        except BaseException as failure:
            told = failure if isinstance(failure, Exception) else self._caller.error_of_closing()
            for waiting in batch:
                waiting.ticket.settle(copy.copy(told))  # each its own: raising one writes into it
            if told is not failure:
                self._give_up()
                raise
        finally:
            self._end_turn()

    async def _sign(self, batch: list[_Waiting]) -> None:
        request = pb.SignCertificatesRequest(items=[waiting.item for waiting in batch], request_id=new_request_id())
        seconds = max(waiting.deadline for waiting in batch) - self._clock()
        try:
            response = await self._caller.unary(SIGN_MANY, request, pb.SignCertificatesResponse, seconds)
        except KeyreeveError as refused:
            if refused.code not in _REFUSALS or is_transient(refused):
                raise
            for waiting in batch:
                waiting.ticket.settle(_Instead.ALONE)
            return
        for waiting, outcome in zip(batch, wire.from_outcomes(response), strict=True):
            waiting.ticket.settle(outcome if isinstance(outcome, SignedCertificate) else _Instead.ALONE)

    def _give_up(self) -> None:
        """The event loop ends: tell whoever still waits."""
        with self._state:
            self._gathering = None
            self._tell_all(self._caller.error_of_closing())

    def _tell_all(self, what: _Outcome) -> None:
        for queue in self._queues.values():
            for waiting in queue:
                waiting.ticket.settle(copy.copy(what))
        self._queues.clear()
