"""Orders to the CA, made in a leader's transaction, and what has to be true before one is given."""

from collections.abc import Iterable
from typing import Protocol

from keyreeve.errors import KeyreeveError, StoreUnavailable
from keyreeve_chassis.leases.ports import LeaseLost, Leases
from keyreeve_chassis.operations.ports import Operation
from keyreeve_chassis.trust_tables.ports import Alteration, Problem, TrustRecords, table_altered
from keyreeve_membership.authorities.ports import Order
from keyreeve_membership.roll.digests import sha256
from keyreeve_membership.roll.ports import Array

LEASE = "operations"
"""The lease under which every order to the CA is given, so that the fences of one array only grow."""


_FACTS = ("arrays", "members", "rotations")
"""The trust tables that orders are made of."""


class FactTransaction(Protocol):
    """A transaction with trust tables."""

    @property
    def trust(self) -> TrustRecords: ...


class LeaderTransaction(FactTransaction, Protocol):
    """A transaction of the leader."""

    @property
    def leases(self) -> Leases: ...


def require_unaltered(tx: FactTransaction) -> None:
    """Raise `StoreUnavailable` unless arrays, members and rotations are as the service has written them.

    The process looks at them once a minute (`TrustWatch`); what cannot be undone is not done on facts of that minute. Run it
    before the transaction changes any of them.
    """
    found = tx.trust.verify(_FACTS)
    if found:
        refusal = table_altered(found)
        raise StoreUnavailable(f"{refusal.reason}: {refusal.message}")


def require_change_of(arrays: Iterable[Array], operation: Operation) -> None:
    """Raise `TrustTableAltered` unless this operation is the structural change of these arrays.

    Operations have no MACs: what one does is bounded by what the records of arrays say of it.
    """
    if any(array.change != operation.operation_id for array in arrays):
        raise altered_operation(operation)


def altered_operation(operation: Operation) -> KeyreeveError:
    """The error of an operation that does not fit the roll."""
    return table_altered([Alteration("operations", operation.operation_id, Problem.CHANGED)])


def order_of(tx: LeaderTransaction, array: Array) -> Order:
    """The order of the array's present change. Run it in a leader's write: that has locked its own lease."""
    return order_at(tx, array.array_id, array.order_number, array.order_step)


def order_at(tx: LeaderTransaction, array_id: str, number: int, step: int) -> Order:
    """An order at a place of an array's changes."""
    lease = tx.leases.current(LEASE)
    if lease is None:
        raise LeaseLost(LEASE)
    # The lease names its owner's process, too; the CA needs no more than that no other owner has the same.
    return Order(array_id, number, step, lease.fence, sha256(lease.owner_nonce.encode()).hex()[:32])
