"""Values that calls take and return.

All times are aware datetimes in UTC, all certificates DER (RFC 5280).
"""

from base64 import b64encode
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from textwrap import wrap

from keyreeve.common_values import AuthorityState as AuthorityState  # noqa: PLC0414 - they are of these values
from keyreeve.common_values import KeyType as KeyType  # noqa: PLC0414
from keyreeve.common_values import MemberState as MemberState  # noqa: PLC0414
from keyreeve.common_values import Name as Name  # noqa: PLC0414
from keyreeve.common_values import NameType as NameType  # noqa: PLC0414
from keyreeve.common_values import OperatorRole as OperatorRole  # noqa: PLC0414


class Line(StrEnum):
    """A hierarchy of authorities whose roots form a trust bundle."""

    CONTROL = "control"
    ESTATE = "estate"


class Hierarchy(StrEnum):
    """The hierarchy of an authority, which decides its profiles."""

    CONTROL = "control"
    """Certificates that the control plane's own listeners trust: services, members, operators and workloads."""
    ESTATE = "estate"
    """Certificates for servers and clients outside of the control plane."""
    STANDALONE = "standalone"
    """A CA that belongs to one resource, such as an array, and is trusted by that alone."""


class AuthorityKind(StrEnum):
    """Whether an authority's certificate is self-signed."""

    ROOT = "root"
    INTERMEDIATE = "intermediate"


@dataclass(frozen=True, slots=True)
class Order:
    """The place of a change among the changes that the membership service makes to one array."""

    rotation: int
    """Number of the rotation or other structural change; it grows for as long as the array exists."""
    step: int
    fence: int
    """Fence of the leader's lease."""
    owner_nonce: str


@dataclass(frozen=True, slots=True)
class Authority:
    """One certificate authority."""

    name: str
    """`authorities/{authority}`."""
    hierarchy: Hierarchy
    kind: AuthorityKind
    state: AuthorityState
    owner: str
    """The resource that a standalone CA belongs to, such as `arrays/{array}`; empty for the two hierarchies."""
    issuer: str
    """The authority that signed it; for a root, its own name."""
    common_name: str
    key_type: KeyType
    lifetime: timedelta
    permitted_dns_suffixes: tuple[str, ...]
    """Name constraints of certificates below it (RFC 5280, 4.2.1.10); empty: none."""
    certificate_der: bytes = field(repr=False)
    certificate_sha256: bytes
    """Its fingerprint."""
    not_before: datetime
    not_after: datetime
    """Last instant of its validity (inclusive)."""
    created_at: datetime
    activated_at: datetime | None
    retired_at: datetime | None
    """When it stopped issuing."""
    revoked_at: datetime | None


class CertificateState(StrEnum):
    """Whether a certificate is valid now."""

    VALID = "valid"
    EXPIRED = "expired"
    REVOKED = "revoked"


class CrlReason(StrEnum):
    """Why a certificate is revoked: CRLReason of RFC 5280, section 5.3.1."""

    UNSPECIFIED = "unspecified"
    KEY_COMPROMISE = "key_compromise"
    """The private key is or may be known to others."""
    CA_COMPROMISE = "ca_compromise"
    """A CA's private key is or may be known to others; for authorities only."""
    AFFILIATION_CHANGED = "affiliation_changed"
    SUPERSEDED = "superseded"
    CESSATION_OF_OPERATION = "cessation_of_operation"
    PRIVILEGE_WITHDRAWN = "privilege_withdrawn"


@dataclass(frozen=True, slots=True)
class BlockedKey:
    """A key that no certificate is issued for."""

    name: str
    """`blockedKeys/{sha256}`: the hash of its DER SubjectPublicKeyInfo in hexadecimal."""
    reason: str
    created_at: datetime
    creator: str
    approved_at: datetime | None
    """When the first of two persons approved unblocking it."""
    approver: str


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate in the ledger."""

    name: str
    """`certificates/{serial}`."""
    authority: str
    """`authorities/{authority}` that signed it."""
    profile: str
    """`profiles/{profile}` that it was issued under."""
    profile_version: int
    identity: str
    """The first URI name, or the first name when it has no URI."""
    requester: str
    """SPIFFE ID of the caller who requested it."""
    request_id: str
    not_before: datetime
    not_after: datetime
    """Last instant of its validity (inclusive)."""
    issued_at: datetime
    state: CertificateState
    spki_sha256: bytes
    """SHA-256 over the DER SubjectPublicKeyInfo."""
    certificate_der: bytes = field(repr=False)
    renews: str
    """`certificates/{serial}` that it renews; empty when it renews none."""
    revoked_at: datetime | None
    revocation_reason: CrlReason | None
    revoker: str
    """SPIFFE ID of the caller who revoked it; empty when it is not revoked."""
    ignored: tuple[str, ...] = ()
    """Parts of the request that the certificate does not have."""

    @property
    def serial(self) -> str:
        """The serial number as 32 lower-case hexadecimal digits."""
        return self.name.removeprefix("certificates/")

    def pem(self) -> str:
        """The certificate in PEM, without its chain."""
        return to_pem([self.certificate_der])


@dataclass(frozen=True, slots=True)
class SignedCertificate:
    """A new certificate with its chain."""

    name: str
    """`certificates/{serial}`."""
    authority: str
    """`authorities/{authority}` that signed it."""
    certificate_der: bytes = field(repr=False)
    chain_der: tuple[bytes, ...] = field(repr=False)
    """The authorities above it, nearest first, without the root."""
    not_before: datetime
    not_after: datetime
    """Last instant of its validity (inclusive)."""
    renew_at: datetime
    """When to renew it: after about two thirds of its life, spread over the certificates of the same time."""
    ignored: tuple[str, ...] = ()
    """Parts of the request that the certificate does not have, each as `field: description`."""

    @property
    def serial(self) -> str:
        """The serial number as 32 lower-case hexadecimal digits."""
        return self.name.removeprefix("certificates/")

    def pem(self) -> str:
        """The certificate, then its chain without the root, in PEM.

        TLS servers expect this order.
        """
        return to_pem([self.certificate_der, *self.chain_der])


@dataclass(frozen=True, slots=True)
class SignItem:
    """One certificate that `sign_many` requests.

    The fields are the arguments of `sign`.
    """

    profile: str
    csr: bytes
    names: tuple[Name, ...] = ()
    lifetime: timedelta | None = None
    authority: str | None = None
    common_name: str | None = None


@dataclass(frozen=True, slots=True)
class Profile:
    """One version of a profile: the rules that certificates are issued by."""

    name: str
    """`profiles/{profile}`."""
    version: int
    document: str
    """Canonical JSON."""
    sha256: bytes
    """SHA-256 over the canonical document."""
    created_at: datetime
    creator: str
    """SPIFFE ID of the caller who created this version."""
    halted: bool
    """Issuance under this version has been halted by a lint finding."""
    built_in: bool
    """It is part of the program, and only a new release changes it."""


@dataclass(frozen=True, slots=True)
class RevocationList:
    """The CRL of one shard of an authority (RFC 5280, section 5)."""

    name: str
    """`authorities/{authority}/revocationLists/{shard}`."""
    number: int
    """The CRL number; it increases with every CRL of the shard."""
    this_update: datetime
    next_update: datetime
    """When it expires; the next one is published long before."""
    entries: int
    crl_der: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class RevokedCertificates:
    """Certificates that were revoked, and the position from which to continue."""

    restore_generation: int
    seq: int
    """Everything up to this number has been told."""
    certificates: tuple[Certificate, ...]


class SimulatedOutcome(StrEnum):
    """The outcome of an issuance under another profile document."""

    SAME = "same"
    DIFFERENT = "different"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class SimulatedIssuance:
    """An issuance with another outcome than before."""

    certificate: str
    """`certificates/{serial}` that was issued."""
    outcome: SimulatedOutcome
    reason: str
    """The reason of the refusal, as in `keyreeve.errors`; empty when it was not refused."""
    message: str


@dataclass(frozen=True, slots=True)
class SimulationReport:
    """The outcomes of the last issuances of a profile under another document."""

    examined: int
    same: int
    different: int
    refused: int
    issuances: tuple[SimulatedIssuance, ...]
    """Those with another outcome than before, newest first, at most 100."""


@dataclass(frozen=True, slots=True)
class OperatorKey:
    """An SSH public key in an operator's record."""

    public_key: str
    """One line in OpenSSH's format."""
    fingerprint: str
    """`SHA256:...`, as `ssh-keygen -l` shows it."""
    hardware: bool
    """Whether the private key is in a security key that requires a touch."""
    added_at: datetime
    added_by: str


@dataclass(frozen=True, slots=True)
class Operator:
    """The record of a person who operates the control plane."""

    name: str
    """`operators/{name}`."""
    person_uid: str
    """Unique to this person, whatever the name or role."""
    role: OperatorRole
    identity: str
    """SPIFFE ID in the operator's certificates."""
    created_at: datetime
    invited_at: datetime
    """When the operator was last invited."""
    invited_by: str
    renews_until: datetime
    """Until when the operator's certificates can be renewed without another invitation."""
    removed_at: datetime | None
    keys: tuple[OperatorKey, ...] = ()
    """Sorted by fingerprint."""


@dataclass(frozen=True, slots=True)
class SshKey:
    """A key with which an operator logs in by SSH, or an SSH CA that certifies such keys."""

    operator: str
    """`operators/{name}`."""
    key: OperatorKey
    certificate_authority: bool


@dataclass(frozen=True, slots=True)
class OperatorApproval:
    """The approval of a change of an operator that another admin makes."""

    operator: str
    """Name of the operator."""
    role: OperatorRole | None
    """The role that they are to have; None: they are to be removed."""
    approver: str
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Invitation:
    """An operator's record, and the token for a certificate of the role."""

    operator: Operator
    token: str = field(repr=False)
    """The enrollment token, which is not shown again; empty when the change requires none."""
    token_expires_at: datetime | None


class IssuanceStatus(StrEnum):
    """Whether certificates are issued."""

    ISSUING = "issuing"
    HALTED = "halted"


@dataclass(frozen=True, slots=True)
class IssuanceState:
    """The switch that stops issuance everywhere.

    Fields that end in `_by` are SPIFFE IDs or empty.
    """

    status: IssuanceStatus
    halted_at: datetime | None
    """When the last halt began; None when there was none."""
    halted_by: str
    halt_reason: str
    approved_at: datetime | None
    """When the first of two operators approved resuming; None unless issuance is halted."""
    approved_by: str
    resumed_at: datetime | None
    """When the last halt ended."""
    resumed_by: str
    resume_reason: str
    resume_needs_two: bool
    """Whether resuming requires two different operators."""

    @property
    def halted(self) -> bool:
        """Whether issuance is halted."""
        return self.status is IssuanceStatus.HALTED


@dataclass(frozen=True, slots=True)
class Bundle:
    """The roots that relying parties of a line trust."""

    name: str
    """`bundles/{line}`."""
    trust_domain: str
    roots_der: tuple[bytes, ...] = field(repr=False)
    """Sorted by their bytes."""
    digest: bytes
    """SHA-256 over the concatenation of `roots_der`: equal digests, equal bundles."""
    trust_root: bytes = field(repr=False)
    """The first root of the trust metadata (TUF root.json)."""

    def pem(self) -> str:
        """The roots in PEM."""
        return to_pem(self.roots_der)


def to_pem(certificates_der: Iterable[bytes]) -> str:
    """Encode certificates as PEM blocks, in order (RFC 7468, section 5)."""
    return "".join(_pem_block(der) for der in certificates_der)


def _pem_block(der: bytes) -> str:
    lines = wrap(b64encode(der).decode(), 64)
    return "\n".join(("-----BEGIN CERTIFICATE-----", *lines, "-----END CERTIFICATE-----", ""))
