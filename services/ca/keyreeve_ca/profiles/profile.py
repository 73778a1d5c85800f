"""Profiles as values, after their document was read and checked. No I/O."""

from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from ipaddress import IPv4Network, IPv6Network

from keyreeve.identity import Role
from keyreeve.values import Hierarchy
from keyreeve_chassis.keys.key_types import KeyType


class Requests(StrEnum):
    """What becomes of parts of a request that the profile does not grant."""

    LENIENT = "lenient"
    """They are left out and told, unless they change whom or what is certified."""
    STRICT = "strict"
    """They refuse the request."""


class SubjectAttribute(StrEnum):
    """Attributes that a subject can hold beside the CN, in the order of a subject."""

    C = "C"
    ST = "ST"
    L = "L"
    O = "O"  # noqa: E741 (its name in every other program)
    OU = "OU"
    SERIAL_NUMBER = "serialNumber"
    EMAIL_ADDRESS = "emailAddress"


class CommonName(StrEnum):
    """Whether the subject holds a CN: one of the DNS names, or text that `Profile.common_names` matches."""

    FORBIDDEN = "forbidden"
    OPTIONAL = "optional"
    REQUIRED = "required"


class KeyUsage(StrEnum):
    """Bits of KeyUsage (RFC 5280, 4.2.1.3). `key_encipherment` is set in certificates for RSA keys only (RFC 8813)."""

    DIGITAL_SIGNATURE = "digital_signature"
    KEY_ENCIPHERMENT = "key_encipherment"


class ExtendedKeyUsage(StrEnum):
    """Purposes of ExtendedKeyUsage (RFC 5280, 4.2.1.12)."""

    SERVER_AUTH = "server_auth"
    CLIENT_AUTH = "client_auth"


@dataclass(frozen=True, slots=True)
class DnsRule:
    """DNS names: how many, and which patterns (`*` one label, `**` one or more, `{variable}` see `UriRule`)."""

    maximum: int
    patterns: tuple[str, ...]
    wildcards: bool = False
    """Whether a name may itself begin with the label `*`."""


@dataclass(frozen=True, slots=True)
class UriRule:
    """URIs: how many, and the templates they match.

    `{trust_domain}` stands for the control plane's; any other `{variable}` matches one path segment and means the same
    text wherever it stands in the profile's rules (also in DNS patterns); `{variable*}` matches one or more segments.
    """

    maximum: int
    templates: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class IpRule:
    """IP addresses: how many, and the networks they lie in."""

    maximum: int
    networks: tuple[IPv4Network | IPv6Network, ...]


@dataclass(frozen=True, slots=True)
class EmailRule:
    """E-mail addresses (RFC 5321 Mailbox, ASCII): how many, and the patterns of their domain (as in `DnsRule`)."""

    maximum: int
    domains: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Profile:
    """A profile: what its certificates hold, and who may request them."""

    description: str
    hierarchy: Hierarchy
    requesters: frozenset[Role]
    keys: frozenset[KeyType]
    default_lifetime: timedelta
    maximum_lifetime: timedelta
    backdate: timedelta
    common_name: CommonName
    dns: DnsRule | None
    uri: UriRule | None
    ip: IpRule | None
    email: EmailRule | None
    minimum_names: int
    key_usage: frozenset[KeyUsage]
    extended_key_usage: frozenset[ExtendedKeyUsage]
    one_identity_per_key: bool
    """Refuse a key that another identity's certificate holds: on where the certificate is an identity of ours."""
    requests: Requests = field(default=Requests.LENIENT, kw_only=True)
    common_names: tuple[str, ...] = field(default=(), kw_only=True)
    """Patterns of a CN that is no DNS name of the certificate (`*` one or more characters); only for clients."""
    kept_attributes: frozenset[SubjectAttribute] = field(default=frozenset(), kw_only=True)
    """Attributes of the request's subject that the certificate repeats."""
    fixed_attributes: tuple[tuple[SubjectAttribute, str], ...] = field(default=(), kw_only=True)
    """Attributes that every certificate has, whatever the request says."""
    may_use_reserved_names: bool
    """Only some of the built-in profiles, and no document of anybody else can say it: reserved DNS names (`service`,
    `enrollment`, `probe`), identities of services (`service`, `enrollment`) and of people (`operator`)."""


PEER_CHECK = "peer-check"
"""The only profile of an introduced authority."""


@dataclass(frozen=True, slots=True)
class ProfileVersion:
    """One immutable version of a profile; `sha256` is over the canonical document, and the ledger pins it."""

    name: str
    version: int
    sha256: bytes
    document: str
    """Canonical JSON."""
    profile: Profile
    halted: bool = False
