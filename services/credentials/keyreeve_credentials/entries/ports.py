"""Entries as the use cases see them, and the port to their records."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from keyreeve.length_prefix import length_prefixed
from keyreeve_credentials.entries.names import ObjectName
from keyreeve_credentials.keys.ports import KekRecords, Sealed, StoredValues

ROW = "row"
"""Field of an audit record that tells of an entry's row."""


class EntryKind(StrEnum):
    """What an entry holds."""

    PASSWORD = "password"  # noqa: S105 - a kind, not a password
    SMART_CARD = "smart_card"


class EntrySource(StrEnum):
    """How the present version of an entry was made."""

    CALL = "call"
    DIALOG = "dialog"
    IMPORT = "import"


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry as it is stored. Times are seconds since 1970."""

    array_id: str
    entry_uid: str
    owner: ObjectName
    resource: ObjectName
    user_name: str
    kind: EntryKind
    source: EntrySource
    version: int
    encryption: int
    """Counts the encryptions: the version in the associated data."""
    created_at: int
    updated_at: int
    sealed: Sealed = field(repr=False)
    """Of the fields `user_name` and the one that is named after the kind."""
    domain: str = ""
    """The Windows domain that a login password was cached with."""
    used_at: int = 0
    """When it was last used, to the hour; 0: never, as far as is known. No part of `row_sha256`."""
    misplaced: bool = False
    """The row is found under the names of another owner or resource. These names are derived, hence not in `row_sha256`."""

    @property
    def name(self) -> str:
        """`arrays/{array}/entries/{entry}`."""
        return f"arrays/{self.array_id}/entries/{self.entry_uid}"

    def row_sha256(self) -> bytes:
        """H(row): SHA-256 over everything that is stored; the audit record of each write has it."""
        numbers = (self.version, self.encryption, self.created_at, self.updated_at)
        texts = (
            self.array_id,
            self.entry_uid,
            self.owner.text,
            self.resource.text,
            self.user_name,
            self.kind.value,
            self.source.value,
            self.sealed.kek_id,
            self.domain,
        )
        return hashlib.sha256(
            length_prefixed(
                *(text.encode() for text in texts),
                *(number.to_bytes(8, "big", signed=True) for number in numbers),
                self.sealed.wrapped_key,
                *(self.sealed.fields[name] for name in ("user_name", self.kind.value)),
            )
        ).digest()


@dataclass(frozen=True, slots=True)
class EntryFilter:
    """Which entries of an array; folded texts in which `*` stands for any characters. Empty: all."""

    owner: str = ""
    resource: str = ""
    user_name: str = ""
    login_only: bool = False


class EntryRecords(Protocol):
    """The records of one transaction."""

    def add(self, entry: Entry) -> bool:
        """Insert an entry; False when there is one of the same array, owner and resource."""
        ...

    def add_all(self, made: Sequence[Entry]) -> None:
        """Insert entries of which there is none; the transaction fails otherwise."""
        ...

    def get(self, array_id: str, entry_uid: str) -> Entry | None: ...
    def find(self, array_id: str, owner: ObjectName, resource: ObjectName) -> Entry | None: ...
    def replace(self, entry: Entry, *, encryption: int) -> bool:
        """Store another state of an entry; False when its encryption is not the one given."""
        ...

    def delete(self, array_id: str, entry_uid: str, *, version: int | None = None) -> bool:
        """Delete an entry, or only a version of it; False when there is none."""
        ...

    def touch(self, entry_uid: str, used_at: int) -> None:
        """Note that an entry has been used."""
        ...

    def page(self, array_id: str, wanted: EntryFilter, *, after: tuple[str, str] | None, limit: int) -> Sequence[Entry]:
        """Entries in order of (owner, resource), folded, after a position."""
        ...

    def count(self) -> int:
        """The number of all entries."""
        ...

    def scan(self, after: str, limit: int) -> Sequence[Entry]:
        """Entries of all arrays in order of their uids, after a text that begins like one."""
        ...

    def chosen(
        self, array_id: str, owner: ObjectName | None, resource: ObjectName | None, *, limit: int
    ) -> Sequence[Entry]:
        """Entries of an owner, of a resource, or of both."""
        ...


class EntryTransaction(Protocol):
    """A transaction that holds entries and keys."""

    @property
    def entries(self) -> EntryRecords: ...

    @property
    def keks(self) -> KekRecords: ...

    @property
    def sealed_values(self) -> Mapping[str, StoredValues]: ...
