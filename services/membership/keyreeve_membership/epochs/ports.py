"""Epochs of the arrays' bundles: the values, and the port to their records."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

EPOCHS = "epochs"
"""Topic that a transaction touches when it publishes an epoch."""


class AuthorityUse(StrEnum):
    """What an authority of a bundle was for when the epoch was made."""

    ISSUE = "issue"
    ACCEPT = "accept"
    CHECK = "check"


@dataclass(frozen=True, slots=True)
class BundleAuthority:
    """An authority of a bundle."""

    authority_id: str
    certificate_der: bytes
    use: AuthorityUse


@dataclass(frozen=True, slots=True)
class Epoch:
    """One epoch of an array's bundle."""

    array_id: str
    restore_generation: int
    epoch: int
    digest: bytes
    previous_digest: bytes
    authorities: tuple[BundleAuthority, ...]
    """Sorted by the bytes of their certificates."""
    rotation_id: str
    created_at: int


class EpochRecords(Protocol):
    """The epochs in one transaction."""

    def newest(self, array_id: str) -> Epoch | None: ...
    def get(self, array_id: str, epoch: int) -> Epoch | None: ...
    def page(self, array_id: str, *, after: int, limit: int) -> Sequence[Epoch]: ...
    def add(self, epoch: Epoch) -> None: ...
    def restore_generation(self) -> int: ...


class EpochTransaction(Protocol):
    """A transaction that holds epochs."""

    @property
    def epochs(self) -> EpochRecords: ...
