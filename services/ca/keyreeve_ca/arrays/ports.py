"""Orders of the membership service and members' records: values, and the port to them."""

from dataclasses import dataclass
from typing import Protocol

from keyreeve.caller_values import MemberRecord


@dataclass(frozen=True, slots=True)
class Order:
    """The place of a change among the changes of one array."""

    rotation: int
    step: int
    fence: int
    owner_nonce: str


class ArrayRecords(Protocol):
    """The records of one database transaction: `Transaction.arrays`."""

    def last_order(self, array: str) -> Order | None:
        """The highest order of an array, locked until the commit in a writing transaction; None: there was none."""
        ...

    def keep_order(self, array: str, order: Order) -> None:
        """Store the highest order of an array."""
        ...

    def set_member(self, record: MemberRecord) -> None:
        """Store a record under the next number of the caller feed; it replaces that of the same `member_uid`."""
        ...

    def member(self, identity: str) -> MemberRecord | None:
        """The record of the member with this SPIFFE ID, unless it was removed."""
        ...
