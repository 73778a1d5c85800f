"""What calls take and give: plain values. All times are aware datetimes in UTC, all certificates DER (RFC 5280)."""

from base64 import b64encode
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from textwrap import wrap
from typing import Self


class NameType(StrEnum):
    """The types of subject alternative names that a profile can allow (RFC 5280, 4.2.1.6)."""

    DNS = "dns"
    IP = "ip"
    URI = "uri"
    EMAIL = "email"


@dataclass(frozen=True, slots=True, order=True)
class Name:
    """A subject alternative name. It is accepted as it is spelled or refused, never normalized."""

    type: NameType
    value: str

    @classmethod
    def dns(cls, value: str) -> Self:
        """A DNS name, such as `web.example.test`."""
        return cls(NameType.DNS, value)

    @classmethod
    def ip(cls, value: str) -> Self:
        """An IPv4 or IPv6 address in text form."""
        return cls(NameType.IP, value)

    @classmethod
    def uri(cls, value: str) -> Self:
        """A URI, such as a SPIFFE ID."""
        return cls(NameType.URI, value)

    @classmethod
    def email(cls, value: str) -> Self:
        """An e-mail address."""
        return cls(NameType.EMAIL, value)

    def __str__(self) -> str:
        return f"{self.type}:{self.value}"


class KeyType(StrEnum):
    """Keys that can be made and certified; what is allowed where is for the profile to say."""

    P256 = "p256"
    P384 = "p384"
    RSA2048 = "rsa2048"
    RSA3072 = "rsa3072"
    RSA4096 = "rsa4096"
    ED25519 = "ed25519"


class Line(StrEnum):
    """A hierarchy of authorities whose roots make a trust bundle."""

    CONTROL = "control"
    ESTATE = "estate"


class Hierarchy(StrEnum):
    """Where an authority belongs; it decides which profiles it may issue under."""

    CONTROL = "control"
    """Services, members, operators and workloads: all that the control plane's own listeners trust."""
    ESTATE = "estate"
    """What is issued to the outside: servers and clients."""
    STANDALONE = "standalone"
    """A CA that belongs to something else, such as an array, and is trusted by that alone."""


class AuthorityKind(StrEnum):
    """What signed an authority's own certificate."""

    ROOT = "root"
    INTERMEDIATE = "intermediate"


class AuthorityState(StrEnum):
    """The life of an authority: pending, active, retiring, retired; and revoked from the first three."""

    PENDING = "pending"
    ACTIVE = "active"
    RETIRING = "retiring"
    RETIRED = "retired"
    REVOKED = "revoked"


@dataclass(frozen=True, slots=True)
class Authority:
    """One certificate authority."""

    name: str
    """`authorities/{authority}`."""
    hierarchy: Hierarchy
    kind: AuthorityKind
    state: AuthorityState
    owner: str
    """The resource that a stand-alone CA belongs to, such as `arrays/{array}`; empty for the two hierarchies."""
    issuer: str
    """The authority that signed it; a root's own name."""
    common_name: str
    key_type: KeyType
    lifetime: timedelta
    permitted_dns_suffixes: tuple[str, ...]
    """Certificates below it are confined to these (RFC 5280, 4.2.1.10); empty: to none."""
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
    """Whether a certificate is good now."""

    VALID = "valid"
    EXPIRED = "expired"
    REVOKED = "revoked"


class CrlReason(StrEnum):
    """Why a certificate is revoked: CRLReason of RFC 5280, section 5.3.1."""

    UNSPECIFIED = "unspecified"
    KEY_COMPROMISE = "key_compromise"
    """The private key is, or may be, known to others."""
    CA_COMPROMISE = "ca_compromise"
    """The same of a CA's key; for authorities only."""
    AFFILIATION_CHANGED = "affiliation_changed"
    SUPERSEDED = "superseded"
    CESSATION_OF_OPERATION = "cessation_of_operation"
    PRIVILEGE_WITHDRAWN = "privilege_withdrawn"


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate as the ledger has it."""

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
    """SPIFFE ID of whoever asked for it."""
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
    """`certificates/{serial}` that it renews; empty for a first."""
    revoked_at: datetime | None
    revocation_reason: CrlReason | None
    revoker: str
    """SPIFFE ID of whoever revoked it; empty unless it was."""

    @property
    def serial(self) -> str:
        """The serial number as 32 lower-case hexadecimal digits."""
        return self.name.removeprefix("certificates/")

    def pem(self) -> str:
        """The certificate alone in PEM."""
        return to_pem([self.certificate_der])


@dataclass(frozen=True, slots=True)
class SignedCertificate:
    """A certificate that has just been signed, with what it takes to use it."""

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
    """When to renew it: about two thirds through its life, spread so that not everybody comes at once."""

    @property
    def serial(self) -> str:
        """The serial number as 32 lower-case hexadecimal digits."""
        return self.name.removeprefix("certificates/")

    def pem(self) -> str:
        """The certificate, then its chain without the root: the order in which TLS servers want a file."""
        return to_pem([self.certificate_der, *self.chain_der])


@dataclass(frozen=True, slots=True)
class SignItem:
    """One of the certificates that `sign_many` asks for; the fields mean what `sign`'s arguments do."""

    profile: str
    csr: bytes
    names: tuple[Name, ...] = ()
    lifetime: timedelta | None = None
    authority: str | None = None


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
    """SPIFFE ID of whoever made this version."""
    halted: bool
    """Issuance under this version has been halted by a lint finding."""
    built_in: bool
    """It came with the program, and only a new release changes it."""


@dataclass(frozen=True, slots=True)
class RevocationList:
    """The revoked certificates of one shard of an authority (RFC 5280, section 5)."""

    name: str
    """`authorities/{authority}/revocationLists/{shard}`."""
    number: int
    """It rises with every list of the shard."""
    this_update: datetime
    next_update: datetime
    """Until when it holds; the next is made long before."""
    entries: int
    crl_der: bytes = field(repr=False)


class SimulatedOutcome(StrEnum):
    """What would have become of an issuance under another document."""

    SAME = "same"
    DIFFERENT = "different"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class SimulatedIssuance:
    """One issuance that would not have been the same."""

    certificate: str
    """`certificates/{serial}` that was issued."""
    outcome: SimulatedOutcome
    reason: str
    """The reason of the refusal, as in `keyreeve.errors`; empty when it would not have been refused."""
    message: str


@dataclass(frozen=True, slots=True)
class SimulationReport:
    """What the last issuances under a profile would have done under another document."""

    examined: int
    same: int
    different: int
    refused: int
    issuances: tuple[SimulatedIssuance, ...]
    """Those that would not have been the same, newest first, at most 100."""


class OperatorRole(StrEnum):
    """What a person who operates the control plane may do."""

    ADMIN = "admin"
    OPERATOR = "operator"
    AUDITOR = "auditor"


@dataclass(frozen=True, slots=True)
class OperatorKey:
    """A public key that proves a person beside a certificate."""

    public_key: str
    """One line as OpenSSH writes it."""
    fingerprint: str
    """`SHA256:...`, as `ssh-keygen -l` shows it."""
    hardware: bool
    """Whether the private key is in a device that asks for a touch."""
    added_at: datetime
    added_by: str


@dataclass(frozen=True, slots=True)
class Operator:
    """The record of a person who operates the control plane."""

    name: str
    """`operators/{name}`."""
    person_uid: str
    """Of this person and no other, whatever the name or role."""
    role: OperatorRole
    identity: str
    """SPIFFE ID in the person's certificates."""
    created_at: datetime
    invited_at: datetime
    """When the person was invited last."""
    invited_by: str
    renews_until: datetime
    """Until then certificates renew themselves."""
    removed_at: datetime | None
    keys: tuple[OperatorKey, ...] = ()
    """In order of their fingerprints."""


@dataclass(frozen=True, slots=True)
class Invitation:
    """A person, and what they need for a certificate of their role."""

    operator: Operator
    token: str = field(repr=False)
    """The enrollment token, shown this once; empty when nothing has changed that would need one."""
    token_expires_at: datetime | None


class IssuanceStatus(StrEnum):
    """Whether certificates are issued."""

    ISSUING = "issuing"
    HALTED = "halted"


@dataclass(frozen=True, slots=True)
class IssuanceState:
    """The switch that stops issuance everywhere. Who did something is a SPIFFE ID, empty where nobody has."""

    status: IssuanceStatus
    halted_at: datetime | None
    """When the last halt began; None when there never was one."""
    halted_by: str
    halt_reason: str
    approved_at: datetime | None
    """When the resumption of a halt that goes on was approved by the first of two operators."""
    approved_by: str
    resumed_at: datetime | None
    """When the last halt ended."""
    resumed_by: str
    resume_reason: str
    resume_needs_two: bool
    """Resuming takes two different operators."""

    @property
    def halted(self) -> bool:
        """Nothing is issued."""
        return self.status is IssuanceStatus.HALTED


@dataclass(frozen=True, slots=True)
class Bundle:
    """The roots that somebody who relies on a line has to trust."""

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
    """Certificates as PEM blocks in the order given (RFC 7468, 5)."""
    return "".join(_pem_block(der) for der in certificates_der)


def _pem_block(der: bytes) -> str:
    lines = wrap(b64encode(der).decode(), 64)
    return "\n".join(("-----BEGIN CERTIFICATE-----", *lines, "-----END CERTIFICATE-----", ""))
