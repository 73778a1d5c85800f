"""Orders to the CA, made in a leader's transaction."""

from typing import Protocol

from keyreeve_chassis.leases.ports import LeaseLost, Leases
from keyreeve_membership.authorities.ports import Order
from keyreeve_membership.roll.digests import sha256
from keyreeve_membership.roll.ports import Array

LEASE = "operations"
"""The lease under which every order to the CA is given, so that the fences of one array only grow."""


class LeaderTransaction(Protocol):
    """A transaction of the leader."""

    @property
    def leases(self) -> Leases: ...


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
