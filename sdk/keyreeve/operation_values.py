"""What calls about operations give: plain values."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class OperationState(StrEnum):
    """How far an operation is."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Operation:
    """Work that outlasts a call."""

    name: str
    """`operations/{operation}`."""
    method: str
    """The method that began it."""
    creator: str
    """SPIFFE ID of whoever began it."""
    state: OperationState
    phase: str
    """What it is doing, in a word of its method's."""
    done: int
    total: int
    """0 while it is not known."""
    created_at: datetime
    updated_at: datetime
    ended_at: datetime | None
    cancel_requested: bool
    error_reason: str
    """A reason of the contract, when it has failed."""
    error_message: str
