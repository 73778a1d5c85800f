"""SPIFFE IDs and their roles, and the DNS names reserved to services.

Source: SPIFFE-ID specification sections 2 and 3; the forms are listed in docs/names.md. Text is accepted or refused,
never normalized. Imports nothing outside the standard library.
"""

import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Self

_LABEL = r"(?!..--)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
_TRUST_DOMAIN = re.compile(rf"(?=.{{1,240}}\Z)({_LABEL}\.)*(?=[^.]*[a-z]){_LABEL}\Z")
_SEGMENT = re.compile(r"[A-Za-z0-9._-]{1,253}\Z")
MAX_SPIFFE_ID_BYTES = 2048


class Role(StrEnum):
    """The role of an identity: the first segments of its SPIFFE ID's path."""

    CA = "services/ca"
    MEMBERSHIP = "services/membership"
    CREDENTIALS = "services/credentials"
    GATEWAY = "services/gateway"
    MEMBER = "members"
    ADMIN = "operators/admin"
    OPERATOR = "operators/operator"
    AUDITOR = "operators/auditor"
    WORKLOAD = "workloads"


SERVICE_ROLES = frozenset({Role.CA, Role.MEMBERSHIP, Role.CREDENTIALS, Role.GATEWAY})
OPERATOR_ROLES = frozenset({Role.ADMIN, Role.OPERATOR, Role.AUDITOR})
ALL_ROLES = frozenset(Role)
INNER_SERVICE_ROLES = SERVICE_ROLES - {Role.GATEWAY}
"""The services that act for themselves: a gateway acts for the operators whose tickets it has."""
SELF_ROLES = ALL_ROLES - {Role.GATEWAY}
"""The roles that act for themselves."""


def is_trust_domain(text: str) -> bool:
    """Whether a text is a trust domain: a DNS name (docs/names.md).

    Reserved DNS names are built from it.
    """
    return _TRUST_DOMAIN.match(text) is not None


@dataclass(frozen=True, slots=True)
class SpiffeId:
    """A SPIFFE ID in canonical form: `spiffe://trust-domain/segment/segment`."""

    trust_domain: str
    path: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse a SPIFFE ID.

        Raises `ValueError` for anything else, such as escapes, empty segments and ports.
        """
        if len(text) > MAX_SPIFFE_ID_BYTES:
            raise ValueError("a SPIFFE ID has at most 2,048 bytes")
        scheme, separator, rest = text.partition("://")
        if scheme != "spiffe" or not separator:
            raise ValueError("a SPIFFE ID begins with spiffe://")
        trust_domain, *path = rest.split("/")
        if not is_trust_domain(trust_domain):
            raise ValueError("the trust domain is not a lower-case DNS name")
        if not path:
            raise ValueError("the path is missing")
        for segment in path:
            if not _SEGMENT.match(segment) or segment in {".", ".."}:
                raise ValueError(f"path segment {segment!r} is not made of letters, digits, '.', '-' and '_'")
        return cls(trust_domain, tuple(path))

    def __str__(self) -> str:
        return f"spiffe://{self.trust_domain}/{'/'.join(self.path)}"

    @property
    def role(self) -> Role | None:
        """The role of the identity; None when its path has no known form."""
        match self.path:
            case ("services", "ca" | "membership" | "credentials" | "gateway" as service, _):
                return Role(f"services/{service}")
            case ("operators", "admin" | "operator" | "auditor" as role, _):
                return Role(f"operators/{role}")
            case ("members", _):
                return Role.MEMBER
            case ("workloads", _, *_):
                return Role.WORKLOAD
        return None


def service_dns_name(service: str, trust_domain: str) -> str:
    """Return the DNS name of a service, such as `ca.svc.example.test`.

    It is in the service's certificate, and clients pin it.
    """
    return f"{service}.svc.{trust_domain}"


def reserved_dns_suffixes(trust_domain: str) -> tuple[str, str]:
    """Return the DNS suffixes reserved to the profiles `service` and `probe`."""
    return (f"svc.{trust_domain}", f"probe.{trust_domain}")


@dataclass(frozen=True, slots=True)
class Caller:
    """A verified caller: its identity, its role and its certificate's serial."""

    id: SpiffeId
    role: Role
    serial: int
    """Serial number of the certificate; 0 for a service that calls itself in its own process."""
    person_uid: str = ""
    """Unique id of an operator, which is never reused, unlike the name; empty for other callers."""
    spki_sha256: bytes = field(default=b"", compare=False, repr=False)
    """SHA-256 of the certificate's SubjectPublicKeyInfo; empty where no certificate was seen."""

    @property
    def claimant(self) -> str:
        """The caller in idempotency records; a reused operator name differs."""
        return f"{self.id}#{self.person_uid}" if self.person_uid else str(self.id)

    def __str__(self) -> str:
        return str(self.id)
