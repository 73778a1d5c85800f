"""Values of the credentials service: entries of the vault."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from keyreeve.plaintext import Plaintext


class EntryKind(StrEnum):
    """What an entry holds."""

    PASSWORD = "password"  # noqa: S105 - a kind, not a password
    SMART_CARD = "smart_card"
    """The decision to always use a smart card."""


class EntrySource(StrEnum):
    """How the present version of an entry was made."""

    CALL = "call"
    DIALOG = "dialog"
    IMPORT = "import"


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry of the vault, without its secret."""

    name: str
    """`arrays/{array}/entries/{entry}`."""
    owner: str
    """`anonymous`, `ldap`, or the TFN name of a person."""
    resource: str
    """TFN name; empty: the owner's login password."""
    user_name: str
    kind: EntryKind
    source: EntrySource
    version: int
    """Counts the changes from 1."""
    encryption: int
    """Counts the encryptions from 1: re-keying makes a new one of the same version."""
    row_sha256: bytes
    """SHA-256 over the stored row, as the audit record of its last encryption has it."""
    key: str
    """The key-encryption key it is encrypted under."""
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class RevealedEntry:
    """An entry with its secret, which is shown as `***` unless it is asked for."""

    entry: Entry
    secret: Plaintext
    """Empty for a smart card decision."""


@dataclass(frozen=True, slots=True)
class DeletedEntries:
    """The outcome of deleting the entries of an owner or a resource."""

    names: tuple[str, ...]
