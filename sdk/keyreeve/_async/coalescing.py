"""Batching of concurrent `sign` calls into `SignCertificates`.

A call that finds none in progress is sent by itself. While calls are in progress, others are collected into a batch: for
`MAX_BATCH_DELAY` while fewer than `MAX_IN_FLIGHT` are in progress, and otherwise until one ends. So a single caller waits
for nothing, and batches grow with the load.

A batch has one request id, which is kept over its retries, so that each caller gets the certificate that was signed for
it. Items that a batch refuses are sent again by themselves: nothing was signed for them, and the caller then gets the
error of a single call.
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

MAX_ITEMS: Final = 100
"""Items of a batch: the contract's limit."""
MAX_BYTES: Final = 1 << 20
"""Bytes of a batch: half of a service's default limit."""
MAX_ITEM_BYTES: Final = 1 << 16
"""A larger request is sent by itself, so that it does not displace many others from a batch."""
MAX_IN_FLIGHT: Final = 4
"""Concurrent calls of one client: enough to keep the service busy, few enough for batches to grow."""
MAX_BATCH_DELAY: Final = 0.002
"""Longest wait of a call for others, in seconds, while fewer than `MAX_IN_FLIGHT` calls are in progress."""

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
"""Status codes of a batch for which nothing was signed."""


class _Resend(Enum):
    """Outcome of a call in place of a certificate or an error."""

    ALONE = auto()
    """Send it again by itself."""


_Key = tuple[str, str]
_Outcome = SignedCertificate | Exception | _Resend


@dataclass(slots=True, eq=False)
class _PendingCall:
    """A waiting call: its item, its deadline, and the promise of its outcome.

    The deadline is on the client's clock.
    """

    item: pb.SignCertificateItem
    size: int
    deadline: float
    outcome: runtime.Promise[_Outcome]


class Coalescer:
    """Sends the `sign` calls of a client, together where possible; safe for threads."""

    def __init__(self, caller: Caller, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._caller = caller
        self._clock = clock
        self._state = threading.Lock()  # guards what follows; never held while waiting
        self._busy = 0
        self._queues: dict[_Key, deque[_PendingCall]] = {}
        """By profile and authority, least recently used first: only one authority signs a batch. None is empty."""
        self._next_batch: runtime.Promise[bool] | None = None

    async def sign(self, item: pb.SignCertificateItem, timeout: float | None) -> SignedCertificate:
        """Sign one item, in a batch if there are others.

        `timeout` is in seconds (the client's unless given).
        """
        seconds = self._caller.timeout if timeout is None else timeout
        deadline = self._clock() + seconds
        size = item.ByteSize()
        if size > MAX_ITEM_BYTES:
            return await self.sign_alone(item, new_request_id(), seconds)
        waiting: _PendingCall | None = None
        if self._reserve_if_idle():
            try:
                await runtime.yield_to_others()
                if not self._queues:
                    return await self.sign_alone(item, new_request_id(), seconds)
                waiting = self._enqueue(item, size, deadline)
            finally:
                self._release()
        waiting = waiting or self._enqueue(item, size, deadline)
        outcome = await waiting.outcome.wait(deadline - self._clock())
        if outcome is None:
            raise self._caller.deadline_passed()
        if outcome is _Resend.ALONE:
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

    # --- Calls in progress, and those that wait ------------------------------------------------------------------------

    def _reserve_if_idle(self) -> bool:
        with self._state:
            if self._busy or self._queues:
                return False
            self._busy = 1
            return True

    def _release(self) -> None:
        with self._state:
            self._busy -= 1
            if self._next_batch is not None:
                self._next_batch.settle(True)
            elif self._queues:
                self._open_batch(at_once=True)

    def _enqueue(self, item: pb.SignCertificateItem, size: int, deadline: float) -> _PendingCall:
        waiting = _PendingCall(item, size, deadline, runtime.Promise())
        with self._state:
            queue = self._queues.setdefault((item.profile, item.authority), deque())
            queue.append(waiting)
            full = len(queue) >= MAX_ITEMS
            if self._next_batch is None:
                if self._busy < MAX_IN_FLIGHT:
                    self._open_batch(at_once=full)
            elif full:
                self._next_batch.settle(True)
        return waiting

    def _open_batch(self, *, at_once: bool) -> None:
        """Open the next batch, with `_state` held.

        It closes after `MAX_BATCH_DELAY`, when full, or when a call ends.
        """
        closed: runtime.Promise[bool] = runtime.Promise()
        if at_once:
            closed.settle(True)
        try:
            runtime.spawn(partial(self._run_batch, closed), "keyreeve-signing")
        except RuntimeError:  # no more threads: each call is sent by itself
            self._settle_all(_Resend.ALONE)
        else:
            self._next_batch = closed

    def _close_batch(self) -> list[_PendingCall]:
        """Take the next batch, and count it as in progress."""
        with self._state:
            self._next_batch = None
            self._busy += 1
            batch = self._take_batch()
            if self._queues and self._busy < MAX_IN_FLIGHT:
                self._open_batch(at_once=len(next(iter(self._queues.values()))) >= MAX_ITEMS)
        return batch

    def _take_batch(self) -> list[_PendingCall]:
        batch: list[_PendingCall] = []
        remaining = MAX_BYTES
        while self._queues and not batch:  # all callers of a queue may have left
            key = next(iter(self._queues))
            queue = self._queues.pop(key)
            while queue and len(batch) < MAX_ITEMS and queue[0].size <= remaining:
                waiting = queue.popleft()
                if waiting.outcome.open:
                    batch.append(waiting)
                    remaining -= waiting.size
            if queue:
                self._queues[key] = queue
        return batch

    # --- One batch ----------------------------------------------------------------------------------------------------

    async def _run_batch(self, closed: runtime.Promise[bool]) -> None:
        try:
            await closed.wait(MAX_BATCH_DELAY)
        except BaseException:
            self._give_up()
            raise
        batch = self._close_batch()
        try:
            if batch:
                await self._send(batch)
        except BaseException as failure:
            error = failure if isinstance(failure, Exception) else self._caller.error_of_closing()
            for waiting in batch:
                waiting.outcome.settle(copy.copy(error))  # each gets a copy: raising an exception changes it
            if error is not failure:
                self._give_up()
                raise
        finally:
            self._release()

    async def _send(self, batch: list[_PendingCall]) -> None:
        request = pb.SignCertificatesRequest(items=[waiting.item for waiting in batch], request_id=new_request_id())
        seconds = max(waiting.deadline for waiting in batch) - self._clock()
        try:
            response = await self._caller.unary(SIGN_MANY, request, pb.SignCertificatesResponse, seconds)
        except KeyreeveError as refused:
            if refused.code not in _REFUSALS or is_transient(refused):
                raise
            for waiting in batch:
                waiting.outcome.settle(_Resend.ALONE)
            return
        for waiting, outcome in zip(batch, wire.from_outcomes(response), strict=True):
            waiting.outcome.settle(outcome if isinstance(outcome, SignedCertificate) else _Resend.ALONE)

    def _give_up(self) -> None:
        """Fail the waiting calls, since the event loop ends."""
        with self._state:
            self._next_batch = None
            self._settle_all(self._caller.error_of_closing())

    def _settle_all(self, outcome: _Outcome) -> None:
        for queue in self._queues.values():
            for waiting in queue:
                waiting.outcome.settle(copy.copy(outcome))
        self._queues.clear()
