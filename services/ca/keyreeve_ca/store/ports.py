"""Authorities, profiles, sealed keys and answered requests as the use cases see them: values, and the port to them.

Unlike the signing path, these change rarely, so a use case is a plain function of a `Transaction`: everything it reads
and writes is one serializable step, and `Store.write` commits it or nothing (rule: an error means nothing happened).
"""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from keyreeve.values import AuthorityKind, AuthorityState, Hierarchy
from keyreeve_ca.arrays.ports import ArrayRecords
from keyreeve_ca.blocked_keys.ports import BlockedKeys
from keyreeve_ca.enrollment.ports import TokenRows
from keyreeve_ca.halt.service import Halts
from keyreeve_ca.ledger.ports import BlockLease, BlockRequest, ItemFailure
from keyreeve_ca.operators.ports import OperatorRecords
from keyreeve_ca.profiles.profile import ProfileVersion
from keyreeve_ca.revocation.ports import Revocation, RevocationRecords
from keyreeve_ca.sessions.ports import SessionRecords
from keyreeve_ca.trust.ports import CallerRecords
from keyreeve_chassis.database.binding import BoundState
from keyreeve_chassis.idempotency.ports import RequestRecords
from keyreeve_chassis.keys.key_types import KeyType
from keyreeve_chassis.keys.ports import SealedKey
from keyreeve_chassis.leases.ports import Leases
from keyreeve_chassis.operations.ports import OperationRecords
from keyreeve_chassis.trust_tables.ports import TrustRecords

T = TypeVar("T")

CONFIG = "config"
"""Topic (`keyreeve_chassis.changes`) of what raises `config_version`: authorities, profiles, operators, the halt."""


@dataclass(frozen=True, slots=True)
class Authority:
    """One CA: what it is, its certificate, and where its sealed key lies. Times are seconds since 1970, UTC."""

    authority_id: str
    hierarchy: Hierarchy
    kind: AuthorityKind
    owner: str
    """Empty for the control plane's own; otherwise the resource that a stand-alone CA belongs to, such as `arrays/x`."""
    state: AuthorityState
    issuer_id: str
    """Its own id for a root."""
    key_id: str
    key_type: KeyType
    certificate_der: bytes
    spki_sha256: bytes
    not_before: int
    not_after: int
    created_at: int
    activated_at: int | None = None
    retired_at: int | None = None
    revoked_at: int | None = None
    revocation_reason: str | None = None


@dataclass(frozen=True, slots=True)
class StoredCertificate:
    """One row of the ledger, read back."""

    serial: bytes
    authority_id: str
    profile_name: str
    profile_version: int
    caller: str
    request_id: str
    identity: str
    spki_sha256: bytes
    not_before: int
    not_after: int
    issued_at: int
    der: bytes
    csr: bytes
    requested_sans: str
    requested_lifetime_seconds: int | None
    renews: bytes | None
    requested_common_name: str | None = None
    ignored: str = "[]"
    """JSON list of the parts of the request that the certificate does not have."""


@dataclass(frozen=True, slots=True)
class CertificateFilter:
    """The filter of `ListCertificates`; None matches everything. Times are seconds since 1970."""

    authority_id: str | None = None
    profile_name: str | None = None
    identity: str | None = None
    caller: str | None = None
    valid_at: int | None = None
    """Only certificates whose validity contains this instant."""
    expired_at: int | None = None
    """Only certificates that had expired by this instant."""
    expires_before: int | None = None
    revoked: bool | None = None
    """Only certificates that were revoked, or were not."""
    issued_from: int | None = None
    issued_before: int | None = None


@dataclass(frozen=True, slots=True)
class CertificatePage:
    """One page of matching certificates, in order of serial number or from the newest."""

    rows: Sequence[StoredCertificate]
    next: bytes | None
    """After which position to go on, a serial number or a `newest_first_position`; None: there is no more."""


def newest_first_position(certificate: StoredCertificate) -> bytes:
    """The position of a certificate in a list from the newest on."""
    return certificate.issued_at.to_bytes(8) + certificate.serial


@dataclass(frozen=True, slots=True)
class Answered:
    """The stored answer to a request of the last 24 hours."""

    payload_sha256: bytes
    response: bytes | None
    """The serialized response of a slow mutation; None for a signing request."""
    items: tuple[bytes | ItemFailure, ...] | None
    """Serials or failures of a signing request; None for a slow mutation."""


@dataclass(frozen=True, slots=True)
class ControlPlaneState:
    """The one row that describes the whole control plane; None before the first start."""

    trust_domain: str
    restore_generation: int
    config_version: int
    """Rises with every change to authorities and profiles; workers reload when it does."""
    key_check: bytes
    """A known value sealed under the key-encryption key: another key is noticed at start."""
    bootstrapped_at: int
    """0 while the control plane is being made: serial blocks can be recorded, and nothing else exists yet."""

    @property
    def bound(self) -> BoundState:
        """The binding that a state directory stores."""
        return BoundState.of(self.key_check, self.trust_domain)


class Transaction(Protocol):
    """Reads and writes of one database transaction. In `Store.read` the writing methods raise."""

    @property
    def revocations(self) -> RevocationRecords:
        """The revocations."""
        ...

    @property
    def operations(self) -> OperationRecords:
        """The long-running operations."""
        ...

    @property
    def leases(self) -> Leases:
        """The leases."""
        ...

    @property
    def halt(self) -> Halts:
        """The halt switch."""
        ...

    @property
    def operators(self) -> OperatorRecords:
        """The operators."""
        ...

    @property
    def sessions(self) -> SessionRecords:
        """The sessions of operators."""
        ...

    @property
    def arrays(self) -> ArrayRecords:
        """The orders of the membership service, and members' records."""
        ...

    @property
    def blocked_keys(self) -> BlockedKeys:
        """The blocked keys."""
        ...

    @property
    def trust(self) -> TrustRecords:
        """The trust tables: authorities, operators, revocations, profiles, tokens, the halt switch, members."""
        ...

    @property
    def callers(self) -> CallerRecords:
        """What decides about callers, in the order of its changes."""
        ...

    def control_plane(self) -> ControlPlaneState | None: ...
    def bootstrap_control_plane(self, control_plane: ControlPlaneState) -> None: ...
    def complete_bootstrap(self, now: int) -> None:
        """Mark the bootstrap as complete."""
        ...

    def bump_config(self) -> int:
        """Raise `config_version` and return it; every change of an authority or profile calls this."""
        ...

    def add_key(self, key: SealedKey) -> None: ...
    def key(self, key_id: str) -> SealedKey:
        """Raises `LookupError` when there is no such key or it has been destroyed."""
        ...

    def destroy_key(self, key_id: str) -> None:
        """Overwrite the sealed private key; the public part stays."""
        ...

    def reserve_block(self, request: BlockRequest) -> BlockLease:
        """Record a block for one CA certificate, closed to leaves, whether or not its issuer is active.

        `authority_id` need not exist yet: a root signs itself. Raises `IssuanceHalted`.
        """
        ...

    def add_authority(self, authority: Authority) -> None:
        """Insert an authority. Raises `AuthorityExists`."""
        ...

    def authority(self, authority_id: str) -> Authority:
        """Read an authority. Raises `AuthorityNotFound`."""
        ...

    def authorities(self, *, after: str = "", limit: int | None = None) -> Sequence[Authority]:
        """All authorities ordered by id, from the one after `after`."""
        ...

    def update_authority(self, authority: Authority) -> None:
        """Store new state and times, locking the row against the commit gate's share lock."""
        ...

    def last_expiry(self, authority_id: str) -> int | None:
        """Latest notAfter among the certificates and subordinate CAs that this authority issued."""
        ...

    def add_profile_version(self, version: ProfileVersion, created_at: int, created_by: str) -> None:
        """Store a version and make it the current one; raises `ProfileExists` / `ProfileVersionStale` on a race."""
        ...

    def profile(self, name: str, version: int | None = None) -> ProfileVersion:
        """Read the current or the given version. Raises `ProfileNotFound`."""
        ...

    def profile_facts(self, name: str, version: int) -> tuple[int, str]:
        """When the version was made (seconds since 1970), and by whom."""
        ...

    def profiles(self, *, after: str = "", limit: int | None = None) -> Sequence[ProfileVersion]:
        """The current version of every profile ordered by name, from the one after `after`."""
        ...

    def halt_profile(self, name: str, version: int) -> None: ...

    def certificate(self, serial: bytes) -> StoredCertificate:
        """Read a certificate. Raises `CertificateNotFound`."""
        ...

    def certificate_and_revocation(self, serial: bytes) -> tuple[StoredCertificate, Revocation | None]:
        """Read a certificate and its revocation, in one statement."""
        ...

    def certificates_by_serial(self, serials: Sequence[bytes]) -> dict[bytes, StoredCertificate]: ...
    def successor(self, serial: bytes) -> StoredCertificate | None:
        """The certificate that renewed this one."""
        ...

    def certificates(self, wanted: CertificateFilter, *, after: bytes, limit: int) -> Sequence[StoredCertificate]:
        """Certificates in order of serial number, after `after`.

        Up to `limit`, however long that takes: only for filters by identity, which take no longer than blocks.
        """
        ...

    def refuse_altered_approvals(self) -> None:
        """Raise `TrustTableAltered` when an earlier approval, or an operator's earlier record, may have been put back."""
        ...

    def is_revoked_since(self, identity: str, since: int) -> bool:
        """Whether a certificate of this identity was revoked at this time or later."""
        ...

    def certificate_page(self, wanted: CertificateFilter, *, after: bytes, limit: int) -> CertificatePage:
        """Up to `limit` certificates; fewer, or none, when finding more would take long."""
        ...

    def newest_page(self, wanted: CertificateFilter, *, after: bytes, limit: int) -> CertificatePage:
        """The same from the newest on, in order of `issued_at` and serial number."""
        ...

    def count_certificates(self, wanted: CertificateFilter, *, after: bytes) -> tuple[int, bytes | None]:
        """Count matching certificates within a bounded time; also return the serial number to continue after."""
        ...

    def ledger_position(self) -> Hashable:
        """A value that differs once a certificate has entered the ledger; in one statement."""
        ...

    def newest_certificates(self, profile_name: str | None, limit: int) -> Sequence[StoredCertificate]:
        """The last `limit` rows, newest first, under any version of the profile, or of all profiles."""
        ...

    def answered(self, caller: str, method: str, request_id: str) -> Answered | None:
        """The stored answer to a request of the last 24 hours; `caller` is `Caller.claimant`."""
        ...

    def answered_and_version(self, caller: str, method: str, request_id: str) -> tuple[Answered | None, int]:
        """The same, and the version of the configuration (`config_version`), in one statement."""
        ...

    @property
    def requests(self) -> RequestRecords:
        """Stored answers of mutations."""
        ...

    @property
    def tokens(self) -> TokenRows:
        """The enrollment tokens."""
        ...

    @property
    def audit(self) -> list[bytes]:
        """Audit records (keyreeve/audit/record.py) to commit with this transaction; append to it."""
        ...

    def put_trust_metadata(self, role: str, version: int, body: bytes) -> None: ...
    def trust_metadata(self, role: str) -> bytes | None:
        """The newest version of a TUF role's metadata."""
        ...


def config_version(tx: Transaction) -> int:
    """The configuration version of authorities and profiles."""
    control_plane = tx.control_plane()
    assert control_plane is not None, "use cases run after bootstrap"
    return control_plane.config_version


class Store(Protocol):
    """Runs transactions: `write` on the one writer (serialization failures are retried), `read` on a snapshot.

    A read that declares `one_statement` costs less.
    """

    async def read(self, work: Callable[[Transaction], T], *, one_statement: bool = False) -> T: ...
    async def write(self, work: Callable[[Transaction], T]) -> T: ...
    async def write_beside(self, work: Callable[[Transaction], T]) -> T:
        """`write` that does not block commits: only for statements that are safe under concurrency."""
        ...
