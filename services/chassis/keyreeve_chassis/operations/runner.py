"""The operation runner: carries out a service's long-running operations in the process that leads them."""

import asyncio
import logging
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Generic

from keyreeve.errors import InternalError, KeyreeveError, Unavailable
from keyreeve_chassis.database.ports import Store, Wait, polling
from keyreeve_chassis.leases.leadership import Leadership
from keyreeve_chassis.leases.ports import LeaseLost
from keyreeve_chassis.operations.ports import Operation, OperationState
from keyreeve_chassis.operations.schedule import Schedule
from keyreeve_chassis.operations.steps import Step, TxT, ended_operation

LOOK_SECONDS = 0.25
"""How often the operations are looked at where nothing tells of changes."""
_OTHER_SECONDS = 1.0
"""How often it is looked at whether another process still leads them: the end of a lease is no change."""
_RETRY_SECONDS = 1.0
"""Before a step is repeated that something unavailable has stopped."""
_POLLING = polling(LOOK_SECONDS)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class OperationRunner(Generic[TxT]):
    """Runs the operations of one service, a step at a time, in the process that holds their lease.

    Any number of processes run one. The lease is held only while there are operations: an idle service writes nothing.
    Operations of methods that have no step here, as those of a newer release, are left alone.
    """

    leadership: Leadership[TxT]
    steps: Mapping[str, Step[TxT]]
    """By method, such as `/keyreeve.ca.v1.CertificateService/RevokeCertificates`."""
    now: Callable[[], int]
    wait: Wait = _POLLING
    undoing: frozenset[str] = frozenset()
    """Methods whose steps end a cancelled operation themselves, because they have something to undo: they read
    `cancel_requested` in their own transactions."""
    clock: Callable[[], float] = time.monotonic

    async def run(self) -> None:
        """Run pending operations, now and after each restart, forever."""
        while True:
            seconds = math.inf
            try:
                if await self._running(self.leadership.store) and not await self.leadership.lead(self._work):
                    seconds = _OTHER_SECONDS
            except Unavailable as unavailable:
                log.warning("operations wait: %s", unavailable)
                seconds = _RETRY_SECONDS
            await self.wait(seconds)

    async def _work(self, store: Store[TxT]) -> None:
        """Run steps until no operation is left."""
        schedule = Schedule(self.clock)
        while True:
            try:
                running = await self._running(store)
                if not running:
                    return
                schedule.forget(running)
                operation = schedule.pick(running)
                if operation is not None:
                    schedule.rest(operation, await self._step(store, operation))
                    continue
                seconds = schedule.seconds(running)
            except Unavailable as unavailable:
                log.warning("operations wait: %s", unavailable)
                seconds = _RETRY_SECONDS
            await self._rest(seconds)

    async def _rest(self, seconds: float) -> None:
        """Wait, but hear of new operations and cancellations; a short rest is not worth a look at the database."""
        if seconds <= LOOK_SECONDS:
            await asyncio.sleep(seconds)
        else:
            await self.wait(seconds)

    async def _step(self, store: Store[TxT], operation: Operation) -> float:
        """Run one step; the seconds that the method rests after it."""
        if operation.cancel_requested:
            await self._end(store, operation, OperationState.CANCELLED)
            return 0.0
        try:
            return await self.steps[operation.method](store, operation)
        except LeaseLost:
            raise
        except Unavailable as unavailable:
            log.warning("operation %s waits: %s", operation.operation_id, unavailable)
            return _RETRY_SECONDS
        except KeyreeveError as failure:
            await self._fail(store, operation, failure)
        except Exception:
            log.exception("operation %s has failed", operation.operation_id)
            await self._fail(
                store, operation, InternalError("the operation met an error that the service's log describes")
            )
        return 0.0

    async def _fail(self, store: Store[TxT], operation: Operation, failure: KeyreeveError) -> None:
        log.error("operation %s has failed: %s: %s", operation.operation_id, failure.reason, failure.message)
        await self._end(store, operation, OperationState.FAILED, failure.reason, failure.message)

    async def _end(
        self, store: Store[TxT], operation: Operation, state: OperationState, reason: str = "", message: str = ""
    ) -> None:
        def end(tx: TxT) -> None:
            found = tx.operations.get(operation.operation_id)
            if found is not None and found.state is OperationState.RUNNING:
                ended = ended_operation(found, state, self.now(), error_reason=reason, error_message=message)
                tx.operations.update(ended)

        await store.write(end)

    async def _running(self, store: Store[TxT]) -> list[Operation]:
        """Operations that have steps here, the oldest first."""
        found = await store.read(lambda tx: tx.operations.running(), one_statement=True)
        return [
            replace(one, cancel_requested=one.cancel_requested and one.method not in self.undoing)
            for one in found
            if one.method in self.steps
        ]
