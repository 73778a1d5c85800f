"""Steps of operations: what a service gives for each of its methods, and how a step stores how far it has come."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Protocol, TypeVar

from keyreeve_chassis.database.ports import Store
from keyreeve_chassis.leases.ports import Leases
from keyreeve_chassis.operations.ports import Operation, OperationRecords, OperationState


class StepTransaction(Protocol):
    """A transaction that a step can run in."""

    @property
    def operations(self) -> OperationRecords: ...

    @property
    def leases(self) -> Leases: ...


TxT = TypeVar("TxT", bound=StepTransaction)

Step = Callable[[Store[TxT], Operation], Awaitable[float]]
"""Does a little of an operation and commits, in the same transaction, how far it has come (`advance_operation`).

It returns the seconds that its method rests before the next step; an operation that is `waiting` rests alone. It is run
again from the last committed step after any interruption. A `KeyreeveError` ends the operation as failed, but for those of
the family `Unavailable`: then the step is repeated.
"""


def advance_operation(tx: StepTransaction, before: Operation, after: Operation, now: int) -> bool:
    """Store `after`; False when the operation is not as it was `before`, or is to be cancelled: then write nothing else."""
    found = tx.operations.get(before.operation_id)
    if found is None or replace(found, cancel_requested=False) != replace(before, cancel_requested=False):
        return False
    if found.cancel_requested:
        tx.operations.update(ended_operation(found, OperationState.CANCELLED, now))
        return False
    tx.operations.update(after)
    return True


def ended_operation(
    operation: Operation, state: OperationState, now: int, *, error_reason: str = "", error_message: str = ""
) -> Operation:
    """An operation that has just ended, in whatever way."""
    return replace(
        operation,
        state=state,
        updated_at=now,
        ended_at=now,
        waiting=(),
        error_reason=error_reason,
        error_message=error_message,
    )
