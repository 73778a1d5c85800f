"""What an idempotent mutation needs of its transaction."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

from keyreeve import errors

TxT = TypeVar("TxT")
V = TypeVar("V")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class StoredResponse:
    """The stored answer to a request of the last 24 hours."""

    payload_sha256: bytes
    response: bytes | None
    """The serialized response message; None when the id belongs to a request of another kind."""


class RequestRecords(Protocol):
    """The stored answers in one transaction. `caller` is `Caller.claimant`."""

    def find(self, caller: str, method: str, request_id: str) -> StoredResponse | None: ...
    def add(self, caller: str, method: str, request_id: str, payload_sha256: bytes, response: bytes) -> None: ...


class MutationTransaction(Protocol):
    """A transaction that a mutation can run in."""

    @property
    def requests(self) -> RequestRecords: ...

    @property
    def audit(self) -> list[bytes]:
        """Audit records (keyreeve/audit/record.py) to commit with this transaction; append to it."""
        ...


Commit = Callable[[Callable[[TxT], V]], Awaitable[R]]
"""Runs the last step of a use case that prepares for long, in the transaction that stores its response."""


def request_id_reused(request_id: str) -> errors.KeyreeveError:
    """The error for a `request_id` that came with another payload."""
    return errors.RequestIdReused(
        f"request_id {request_id} was used for another request", metadata={"request_id": request_id}
    )
