"""Which orders count: a leader that wakes late must change nothing."""

from keyreeve import errors
from keyreeve_ca.arrays.ports import ArrayRecords, Order

ARRAY_PREFIX = "arrays/"
"""Owners of authorities that only orders change."""


def is_array(owner: str) -> bool:
    """Whether the owner of an authority is an array."""
    return owner.startswith(ARRAY_PREFIX)


def refuse_outdated(array: str, order: Order, last: Order | None) -> None:
    """Raise `OrderOutdated` unless the order may follow the last one; an exact repeat may."""
    if last is None:
        return
    leads = order.fence > last.fence or (order.fence, order.owner_nonce) == (last.fence, last.owner_nonce)
    if leads and (order.rotation, order.step) >= (last.rotation, last.step):
        return
    raise errors.OrderOutdated(
        f"rotation {order.rotation}, step {order.step} under fence {order.fence} is behind what is known of {array}",
        metadata={"rotation": str(last.rotation), "step": str(last.step), "fence": str(last.fence)},
    )


def check_order(arrays: ArrayRecords, owner: str, order: Order | None) -> None:
    """Raise unless an order is there for an array's authority, and for no other, and may follow the last one."""
    if is_array(owner) != (order is not None):
        what = "required for what an array owns" if order is None else "only what an array owns is changed by orders"
        raise errors.FieldInvalid(f"order: {what}", violations=[errors.Violation("order", what)])
    if order is not None:
        refuse_outdated(owner, order, arrays.last_order(owner))


def follow_order(arrays: ArrayRecords, owner: str, order: Order | None) -> None:
    """The same at the beginning of the transaction that carries the order out; it is the last one from then on."""
    check_order(arrays, owner, order)
    if order is not None:
        arrays.keep_order(owner, order)
