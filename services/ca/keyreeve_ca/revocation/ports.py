"""Revocations as the use cases see them: values, and the port to their records.

Every revocation has a number, `seq`, assigned under one row's lock that is held to the commit. A reader that has read
everything up to a number has missed nothing before it; a plain sequence would lose rows that commit out of order.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from keyreeve.values import CrlReason

REVOCATIONS = "revocations"
"""Topic of what takes a revocation number: revocations, phantoms, changes of callers."""
FULL_LIST = -1
"""Shard number of an authority's full list: all its shards in one CRL, for programs that know no distribution points."""


REASON_CODES = {
    "unspecified": 0,
    "key_compromise": 1,
    "ca_compromise": 2,
    "affiliation_changed": 3,
    "superseded": 4,
    "cessation_of_operation": 5,
    "privilege_withdrawn": 9,
}
"""The number of each reason in CRLs and OCSP responses (RFC 5280, 5.3.1)."""


@dataclass(frozen=True, slots=True)
class Revocation:
    """One revocation. Times are seconds since 1970."""

    serial: bytes
    seq: int
    authority_id: str
    crl_shard: int
    reason: CrlReason
    revoked_at: int
    actor: str
    """SPIFFE ID of the caller who revoked it."""
    not_after: int
    """Last instant of the certificate."""


@dataclass(frozen=True, slots=True)
class NewRevocation:
    """A revocation to record; number and shard are assigned then."""

    serial: bytes
    authority_id: str
    not_after: int
    reason: CrlReason
    revoked_at: int
    actor: str


Shard = tuple[str, int]
"""Authority, number of its shard."""


@dataclass(frozen=True, slots=True)
class ListState:
    """The newest CRL of a shard. Times are seconds since 1970."""

    number: int
    seq: int
    """It holds every revocation up to this number."""
    this_update: int
    next_update: int


@dataclass(frozen=True, slots=True)
class PublishedList:
    """The newest CRL of a shard, with its bytes."""

    state: ListState
    entries: int
    der: bytes


@dataclass(frozen=True, slots=True)
class VoidBlock:
    """A block whose worker is gone."""

    block_id: int
    authority_id: str
    crl_shard: int
    committed: int
    """The last counter that is in the ledger; -1: none is."""
    size: int
    longest_lifetime: int | None
    """Seconds: the most that a profile in force when it was leased allows; None when one is not known any more."""


@dataclass(frozen=True, slots=True)
class Phantoms:
    """Counters of a void block that may have been signed, and until when they could be valid."""

    block_id: int
    authority_id: str
    crl_shard: int
    first_counter: int
    last_counter: int
    noticed_at: int
    expires_at: int


@dataclass(frozen=True, slots=True)
class SeededPhantoms:
    """Phantoms with what derives their serial numbers."""

    phantoms: Phantoms
    seed_id: str
    sealed_seed: bytes


class RevocationRecords(Protocol):
    """The records of one database transaction: `Transaction.revocations`."""

    def of(self, serials: Sequence[bytes]) -> dict[bytes, Revocation]:
        """The given serial numbers that have been revoked."""
        ...

    def add(self, new: Sequence[NewRevocation]) -> list[Revocation]:
        """Record revocations; no renewal of these certificates enters the ledger from then on."""
        ...

    def ended_line(self, serial: bytes) -> bool:
        """Whether a certificate may not be renewed because it, or another of its line, has been revoked."""
        ...

    def last_seq(self) -> int:
        """The highest number assigned so far; 0 when there is none."""
        ...

    def position(self) -> tuple[int, int]:
        """The restore generation, and the highest number assigned so far, in one statement."""
        ...

    def callers_after(self, seq: int, *, expiring_from: int, limit: int) -> list[Revocation]:
        """Revoked certificates of the control hierarchy above `seq`, in order.

        Those that expire before `expiring_from` are left out.
        """
        ...

    def revoked_after(self, seq: int, limit: int) -> list[Revocation]:
        """Revocations above `seq`, in order of their numbers."""
        ...

    # --- Lists ---

    def shards(self) -> dict[str, int]:
        """The number of shards of each authority; at least one."""
        ...

    def list_states(self) -> dict[Shard, ListState]:
        """The newest CRL of each shard."""
        ...

    def changed_shards(self, seq: int) -> dict[Shard, int]:
        """Shards with revocations or phantoms above `seq`, with the highest number of each."""
        ...

    def any_void_block(self) -> bool:
        """Whether a void block exists whose phantoms are not recorded; one statement."""
        ...

    def void_blocks(self, limit: int) -> list[VoidBlock]:
        """Void blocks whose phantoms are not recorded."""
        ...

    def add_phantoms(self, found: Sequence[Phantoms]) -> None:
        """Record phantoms under new numbers."""
        ...

    def listed(self, shard: Shard, *, expiring_from: int, after: int, limit: int) -> list[tuple[bytes, int, str, int]]:
        """Serial number, time, reason and number of a shard's revoked certificates that expire no earlier.

        In order of their numbers, from the one above `after`.
        """
        ...

    def phantoms(self, shard: Shard, *, expiring_from: int) -> list[SeededPhantoms]: ...
    def phantoms_of_block(self, block_id: int) -> SeededPhantoms | None: ...
    def reserve_list_number(self, shard: Shard) -> int:
        """Reserve the next CRL number of a shard; each number is used once."""
        ...

    def publish_list(self, shard: Shard, published: PublishedList) -> bool:
        """Replace a shard's CRL unless the stored one is newer; return whether it was replaced."""
        ...

    def published_list(self, shard: Shard) -> PublishedList | None: ...
