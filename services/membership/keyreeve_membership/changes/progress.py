"""How steps of structural changes store how far they have come."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from keyreeve.errors import KeyreeveError, Unavailable
from keyreeve_chassis.leases.ports import LeaseLost
from keyreeve_chassis.operations.ports import Operation, OperationState, Waiting
from keyreeve_chassis.operations.steps import ended_operation
from keyreeve_membership.roll.ports import Array
from keyreeve_membership.store.ports import Transaction

PUBLISH = "/keyreeve.membership.v1.MemberService/PublishMembers"
"""Method of the operations that tell the CA of members; no RPC."""
WAIT_SECONDS = 0.5
"""Rest of an operation that waits for agents."""


class ChangedMeanwhile(Unavailable):
    """Another process has moved the operation: what was decided on an older state is not written."""


def present(tx: Transaction, operation: Operation) -> Operation:
    """The operation as it is now. Raises `ChangedMeanwhile` when it is not as `operation`, or has ended."""
    found = tx.operations.get(operation.operation_id)
    if found is None or replace(found, cancel_requested=False, waiting=()) != replace(
        operation, cancel_requested=False, waiting=()
    ):
        raise ChangedMeanwhile(f"the operation {operation.operation_id} has moved on")
    return found


def move(
    tx: Transaction, operation: Operation, now: int, *, phase: str, done: int = 0, waiting: Sequence[Waiting] = ()
) -> None:
    """Store a phase and what it waits for; the time since which it waits is kept."""
    found = present(tx, operation)
    since = {(one.resource, one.reason): one.since for one in found.waiting}
    kept = tuple(replace(one, since=since.get((one.resource, one.reason), one.since)) for one in waiting)
    after = replace(found, phase=phase, done=done, waiting=kept)
    if after != found:
        tx.operations.update(replace(after, updated_at=now))


def end(
    tx: Transaction, operation: Operation, state: OperationState, now: int, *, reason: str = "", message: str = ""
) -> None:
    """End the operation."""
    tx.operations.update(
        ended_operation(present(tx, operation), state, now, error_reason=reason, error_message=message)
    )


def publish_members(tx: Transaction, now: int) -> None:
    """Have the CA told of what has changed in the roll: by one operation, which may run already."""
    if not any(one.method == PUBLISH for one in tx.operations.running()):
        tx.operations.add(Operation.begin(PUBLISH, "", "publishing", {}, now))


def release(tx: Transaction, array_id: str, operation: Operation) -> Array | None:
    """End the structural change of an array that belongs to this operation; return the array as it is then."""
    array = tx.roll.lock_array(array_id)
    if array is not None and array.change == operation.operation_id:
        array = replace(array, change="")
        tx.roll.update_array(array)
    return array


@contextmanager
def must_succeed() -> Iterator[None]:
    """Have what cannot be undone any more repeated until it succeeds: a refusal becomes `Unavailable`."""
    try:
        yield
    except (Unavailable, LeaseLost):
        raise
    except KeyreeveError as refusal:
        raise Unavailable(f"{refusal.reason}: {refusal.message}") from refusal
