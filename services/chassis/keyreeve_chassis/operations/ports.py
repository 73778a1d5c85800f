"""Long-running operations: the record of one, which is all that a restart needs to go on, and the port to the records."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from keyreeve_chassis.idempotency.ports import MutationTransaction

OPERATIONS = "operations"
"""Topic that a transaction touches when it changes an operation (`keyreeve_chassis.changes`)."""


class OperationState(StrEnum):
    """The state of an operation."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Waiting:
    """What an operation waits for."""

    resource: str
    """Name of the resource that has to do something, such as `members/web-1`."""
    reason: str
    """What it has to do: a stable short text."""
    since: int
    """Seconds since 1970."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation. Times are seconds since 1970."""

    operation_id: str
    method: str
    creator: str
    """SPIFFE ID of the caller who began it."""
    state: OperationState
    phase: str
    arguments: dict[str, Any]
    """What was asked for: plain values."""
    position: bytes
    """How far it has come, in its method's own terms."""
    done: int
    total: int
    """0 while it is not known."""
    created_at: int
    updated_at: int
    ended_at: int | None = None
    cancel_requested: bool = False
    error_reason: str = ""
    error_message: str = ""
    waiting: tuple[Waiting, ...] = ()
    """What it waits for now."""

    @classmethod
    def begin(cls, method: str, creator: str, phase: str, arguments: dict[str, Any], now: int) -> "Operation":
        """A new one. Its name is random, and sorts by the time it was begun."""
        name = f"{now:012x}-{uuid.uuid4().hex[:20]}"
        return cls(name, method, creator, OperationState.RUNNING, phase, arguments, b"", 0, 0, now, now)


class OperationRecords(Protocol):
    """The records of one database transaction: `Transaction.operations`."""

    def add(self, operation: Operation) -> None: ...
    def get(self, operation_id: str) -> Operation | None: ...
    def update(self, operation: Operation) -> None:
        """Store everything about an operation but what it was begun with, and whether it is to be cancelled."""
        ...

    def request_cancel(self, operation_id: str) -> None: ...
    def page(self, creator: str | None, *, before: str, limit: int) -> Sequence[Operation]:
        """Operations, of one creator or all, the newest first, from the one before `before` (empty: from the newest)."""
        ...

    def running(self) -> Sequence[Operation]:
        """Those that go on, the oldest first."""
        ...


class OperationTransaction(MutationTransaction, Protocol):
    """A transaction that holds operations."""

    @property
    def operations(self) -> OperationRecords: ...
