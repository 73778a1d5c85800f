"""Values that calls of several services take and return.

Apart from `keyreeve.values`, because a command that makes one call should not load what all others return.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Self


class NameType(StrEnum):
    """Types of subject alternative names (RFC 5280, section 4.2.1.6)."""

    DNS = "dns"
    IP = "ip"
    URI = "uri"
    EMAIL = "email"


@dataclass(frozen=True, slots=True, order=True)
class Name:
    """A subject alternative name.

    It is accepted as it is spelled, or refused; never normalized.
    """

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
    """Types of keys that can be made and certified; each profile allows some of them."""

    P256 = "p256"
    P384 = "p384"
    RSA2048 = "rsa2048"
    RSA3072 = "rsa3072"
    RSA4096 = "rsa4096"
    ED25519 = "ed25519"


class AuthorityState(StrEnum):
    """The states of an authority: pending, for arrays then introduced, active, retiring, retired.

    Revoked from any but the last.
    """

    PENDING = "pending"
    INTRODUCED = "introduced"
    ACTIVE = "active"
    RETIRING = "retiring"
    RETIRED = "retired"
    REVOKED = "revoked"


class MemberState(StrEnum):
    """The states of a member of an array."""

    STANDALONE = "standalone"
    JOINING = "joining"
    MEMBER = "member"
    DETACHING = "detaching"
    QUARANTINED = "quarantined"
    DETACHED = "detached"


class OperatorRole(StrEnum):
    """The role of an operator."""

    ADMIN = "admin"
    OPERATOR = "operator"
    AUDITOR = "auditor"
