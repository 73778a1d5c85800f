"""What changed about callers, as the feed sees it, and the port to the records.

Issuing CAs of the control hierarchy, operators' and members' records, revocations and closed sessions share one sequence of
numbers, assigned under one row's lock held to the commit: a reader that has everything up to a number has missed nothing before it.
"""

from dataclasses import dataclass
from typing import Protocol

from keyreeve.caller_values import IssuingAuthority, MemberRecord, OperatorRecord


@dataclass(frozen=True, slots=True)
class CallerChanges:
    """Everything that changed between two numbers, as it is now."""

    after_seq: int
    seq: int
    """Up to this number; below `head_seq` when there is more than was asked for."""
    head_seq: int
    """The highest number assigned so far."""
    authorities: tuple[IssuingAuthority, ...] = ()
    operators: tuple[OperatorRecord, ...] = ()
    revoked: tuple[tuple[bytes, int], ...] = ()
    """Serial number and last instant of each certificate."""
    members: tuple[MemberRecord, ...] = ()
    closed_sessions: tuple[tuple[str, int], ...] = ()
    """Id and latest end of each closed session of an operator."""


class CallerRecords(Protocol):
    """The records of one database transaction: `Transaction.callers`."""

    def changes(self, after_seq: int, *, expiring_from: int, limit: int) -> CallerChanges:
        """What changed after a number, in order, about `limit` entries of each kind.

        From the beginning when `after_seq` is above the highest number: that is of another history. Revoked certificates
        that expire before `expiring_from` are left out: they cannot call any more.
        """
        ...
