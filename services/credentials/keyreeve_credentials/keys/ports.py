"""Key-encryption keys (KEKs) as the use cases see them: the root provider, which holds them, and their records in SQL."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol


class KekState(StrEnum):
    """The state of a key-encryption key."""

    WRITER = "writer"
    """New data keys are wrapped under it."""
    DRAINING = "draining"
    """Values under it are read, and re-encrypted under the writer."""
    DESTROYING = "destroying"
    """No value needs it; the root provider is being told to destroy it."""
    DESTROYED = "destroyed"


@dataclass(frozen=True, slots=True)
class Kek:
    """The record of a key-encryption key. Times are seconds since 1970."""

    kek_id: str
    array_id: str
    number: int
    """Counts the keys of an array from 1."""
    state: KekState
    wraps: int
    """Data keys that it has wrapped."""
    created_at: int
    changed_at: int


class OpenKek(Protocol):
    """An opened key-encryption key (AES-256-GCM). Calls are quick and may come from any thread."""

    def encrypt(self, nonce: bytes, data: bytes, associated_data: bytes | None) -> bytes:
        """Encrypt and authenticate."""
        ...

    def decrypt(self, nonce: bytes, data: bytes, associated_data: bytes | None) -> bytes:
        """Undo `encrypt`. Raises `cryptography.exceptions.InvalidTag`."""
        ...


class RootProvider(Protocol):
    """Holds the key-encryption keys outside SQL, sealed under a root key.

    What it does is visible to all replicas within a second. Calls block, and may come from any thread. All raise
    `VaultKeyUnavailable` when the provider cannot be used.
    """

    def create(self, array_id: str, kek_id: str) -> None:
        """Create a key, durably. An id is used once, also after its key has been destroyed."""
        ...

    def open(self, array_id: str, kek_id: str) -> OpenKek:
        """Open a key. Raises `VaultKeyUnavailable` when it is missing, destroyed, damaged, or another array's."""
        ...

    def list(self) -> Sequence[str]:
        """The ids of all keys that can be opened."""
        ...

    def destroy(self, kek_id: str) -> None:
        """Destroy a key for good; a key that is gone stays gone."""
        ...

    def confirm(self, kek_id: str) -> bool:
        """Whether a key has been destroyed: nothing here opens it any more."""
        ...


class KekRecords(Protocol):
    """The records of one transaction."""

    def add(self, kek: Kek) -> bool:
        """Insert a record; False when the array has a writer, or this number, already."""
        ...

    def get(self, kek_id: str) -> Kek | None: ...
    def writer(self, array_id: str) -> Kek | None: ...
    def of_array(self, array_id: str) -> Sequence[Kek]:
        """All keys of an array, the oldest first."""
        ...

    def all(self) -> Sequence[Kek]: ...
    def use_writer(self, array_id: str, wraps: int) -> Kek | None:
        """Lock the array's writer until the transaction ends, and count `wraps` more data keys; None: there is none."""
        ...


class KeyTransaction(Protocol):
    """A transaction that holds them."""

    @property
    def keks(self) -> KekRecords: ...
