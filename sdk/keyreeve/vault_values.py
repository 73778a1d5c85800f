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
    domain: str = ""
    """The Windows domain that a login password was cached with."""
    used_at: datetime | None = None
    """When it was last used, to the hour; None: never, as far as is known."""


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


class Membership(StrEnum):
    """The condition of a policy rule on the caller's membership."""

    ANY = "any"
    MEMBER_OF_ARRAY = "member"
    """A current member of the entry's array."""
    PRIMARY_OF_ARRAY = "primary"
    """Its current primary."""


@dataclass(frozen=True, slots=True)
class PolicyRule:
    """Allows something. In patterns `*` stands for any characters; an empty tuple stands for everything."""

    callers: tuple[str, ...]
    """SPIFFE IDs without the trust domain, such as `operators/admin/*`."""
    purposes: tuple[str, ...]
    """`manage`, `list`, `launch`, and those that `reveal` is given."""
    membership: Membership = Membership.ANY
    arrays: tuple[str, ...] = ()
    owners: tuple[str, ...] = ()
    resources: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Policy:
    """One version of a policy; 0 is the built-in one."""

    name: str
    """`policies/{policy}`."""
    version: int
    rules: tuple[PolicyRule, ...]
    creator: str
    created_at: datetime | None
    """None for the built-in one."""


@dataclass(frozen=True, slots=True)
class SimulatedRead:
    """A past read that would end in another way."""

    caller: str
    array: str
    owner: str
    resource: str
    purpose: str
    read_at: datetime
    allowed: bool
    """Whether it would be allowed; it was the other way round."""


@dataclass(frozen=True, slots=True)
class PolicySimulation:
    """Past reads under another policy."""

    examined: int
    newly_denied: int
    newly_allowed: int
    reads: tuple[SimulatedRead, ...]
    """At most 100, the newest first."""


class KeyStage(StrEnum):
    """The life of a key-encryption key."""

    WRITER = "writer"
    DRAINING = "draining"
    DESTROYING = "destroying"
    DESTROYED = "destroyed"


@dataclass(frozen=True, slots=True)
class Key:
    """A key-encryption key of an array."""

    name: str
    """`arrays/{array}/keys/{key}`."""
    number: int
    stage: KeyStage
    wraps: int
    values: int
    """Values that are encrypted under it."""
    created_at: datetime
    drained_at: datetime | None
    destroy_at: datetime | None
    """When it is destroyed by itself."""
    destruction_requester: str
    """The first person who asked for its destruction at once within the last hour."""


@dataclass(frozen=True, slots=True)
class SealState:
    """Whether the vault is sealed."""

    sealed: bool
    changed_at: datetime | None
    changer: str
    reason: str


@dataclass(frozen=True, slots=True)
class KeyState:
    """The keys of an array, the newest first, and the seal of the vault."""

    keys: tuple[Key, ...]
    seal: SealState
    rotation: str
    """`operations/{operation}` that re-encrypts; empty if there is none."""


@dataclass(frozen=True, slots=True)
class ImportRow:
    """An entry to import, and its line in the source."""

    line: int
    owner: str
    resource: str
    user_name: str
    secret: Plaintext | None = None
    kind: EntryKind = EntryKind.PASSWORD
    domain: str = ""


@dataclass(frozen=True, slots=True)
class ImportReport:
    """The outcome of an import."""

    created: int
    replaced: int
    dry_run: bool
    """Nothing was changed."""
