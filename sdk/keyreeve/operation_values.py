"""Values of the calls about operations."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class OperationState(StrEnum):
    """The states of an operation."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Waiting:
    """A condition that an operation waits for."""

    resource: str
    """Name of the resource that has to act, such as `members/web-1.example.com`."""
    reason: str
    """What is missing: a short text that stays the same for the same condition."""
    since: datetime


@dataclass(frozen=True, slots=True)
class Operation:
    """Work that continues after the call that started it."""

    name: str
    """`operations/{operation}`."""
    method: str
    """The method that started it."""
    creator: str
    """SPIFFE ID of the caller who started it."""
    state: OperationState
    phase: str
    """The present phase, one word that the method defines."""
    done: int
    total: int
    """0 while it is unknown."""
    created_at: datetime
    updated_at: datetime
    ended_at: datetime | None
    cancel_requested: bool
    error_reason: str
    """The reason of its failure, as in `keyreeve.errors`; empty unless it has failed."""
    error_message: str
    waiting: tuple[Waiting, ...] = ()
    """What it waits for now; empty while it makes progress."""
