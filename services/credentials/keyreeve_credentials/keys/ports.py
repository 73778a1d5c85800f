"""Key-encryption keys (KEKs) as the use cases see them: the root provider, which holds them, and their records in SQL."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

KEYS = "keys"
"""Topic that a transaction touches when it changes a key or the seal switch (`keyreeve_chassis.changes`)."""


MOST_WRAPS = 2**30
"""Data keys that one key-encryption key wraps with random 96-bit nonces (docs/vault.md)."""


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
    drained_at: int | None = None
    """When the last value under it was re-encrypted."""
    destroy_at: int | None = None
    """When it is destroyed by itself."""
    asked_at: int | None = None
    """When the first of two people asked for its destruction at once."""
    asked_by: str = ""
    """Their SPIFFE ID."""
    asked_person: str = ""

    @property
    def name(self) -> str:
        """`arrays/{array}/keys/{key}`."""
        return f"arrays/{self.array_id}/keys/{self.kek_id}"


@dataclass(frozen=True, slots=True)
class SealState:
    """Whether the vault is sealed. Times are seconds since 1970."""

    sealed: bool
    changed_at: int = 0
    changed_by: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Sealed:
    """The fields of one write, encrypted under one data key (keys/envelope.py)."""

    kek_id: str
    wrapped_key: bytes = field(repr=False)
    fields: Mapping[str, bytes] = field(repr=False)


@dataclass(frozen=True, slots=True)
class StoredValue:
    """A value of any feature as the sweep sees it: its place and its sealed bytes."""

    name: str
    """Resource name, for alarms and audit records."""
    array_id: str
    uid: str
    owner: str
    resource: str
    encryption: int
    sealed: Sealed
    original: Any = field(default=None, repr=False)
    """The row as its feature read it."""


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
    `VaultKeyUnavailable` when the provider cannot be used, and `StoreUnavailable` when it does not answer.
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


class StoredValues(Protocol):
    """The values of one feature that are encrypted under keys of the vault, in one transaction."""

    @property
    def recorded_as(self) -> str:
        """Field of an audit record that tells of a row: name, encryption and H(row)."""
        ...

    def count_under(self, kek_id: str) -> int:
        """How many are under a key."""
        ...

    def page_under(self, kek_id: str, after: str, limit: int) -> Sequence[StoredValue]:
        """Values under a key in order of their uids, after a uid."""
        ...

    def store_again(self, values: Sequence[StoredValue]) -> Sequence[tuple[StoredValue, bytes]]:
        """Store other encryptions of values, unless the one before has been replaced: those stored, each with H(row)."""
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
    def exist(self) -> bool:
        """Whether there is any record, whatever its state."""
        ...

    def update(self, kek: Kek) -> None:
        """Store everything about a key but its wraps."""
        ...

    def seal_state(self) -> SealState | None:
        """Whether the vault is sealed; None before the first start."""
        ...

    def put_seal_state(self, state: SealState) -> None: ...
    def use_writer(self, array_id: str, wraps: int) -> Kek | None:
        """Lock the array's writer until the transaction ends, and count `wraps` more data keys; None: there is none."""
        ...


class KeyTransaction(Protocol):
    """A transaction that holds them."""

    @property
    def keks(self) -> KekRecords: ...

    @property
    def sealed_values(self) -> Mapping[str, StoredValues]:
        """The values of each feature."""
        ...
