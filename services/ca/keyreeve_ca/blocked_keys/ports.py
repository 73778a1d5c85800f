"""Blocked keys as the use cases see them: values, and the port to them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class BlockedKey:
    """A key that is not certified. Times are seconds since 1970."""

    spki_sha256: bytes
    """SHA-256 of its DER SubjectPublicKeyInfo."""
    reason: str
    created_at: int
    created_by: str
    approved_at: int | None = None
    approved_by: str = ""
    """Who wants it unblocked; a second person has to agree."""
    approver: str = ""
    """The person behind `approved_by`."""


class BlockedKeys(Protocol):
    """The blocked keys in one transaction. Writing methods raise in a read transaction."""

    def all(self) -> frozenset[bytes]:
        """The hashes of all blocked keys."""
        ...

    def find(self, spki_sha256: bytes) -> BlockedKey | None: ...
    def page(self, *, after: bytes, limit: int) -> Sequence[BlockedKey]:
        """Keys in order of their hashes, after `after`."""
        ...

    def add(self, new: Mapping[bytes, BlockedKey]) -> int:
        """Block keys that are not yet; return how many."""
        ...

    def put(self, key: BlockedKey) -> None:
        """Replace the record of a blocked key."""
        ...

    def remove(self, spki_sha256: bytes) -> None: ...
