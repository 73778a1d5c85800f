"""Operators as the use cases see them: their records, and the port to them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from keyreeve.identity import Role, SpiffeId
from keyreeve_ca.requests.openssh_keys import OperatorKey

INVITATION_SECONDS = 7 * 86_400
"""How long after the last invitation certificates renew themselves."""
APPROVAL_SECONDS = 3600
"""How long the first of two people's approval waits for the second."""


@dataclass(frozen=True, slots=True)
class Actor:
    """The caller: the identity for the record, and the operator whom dual control compares."""

    identity: str
    person: str
    """Stays the same whatever certificate or role the person comes with."""
    known_since: int = 0
    """When an operator was first invited; 0 for a program."""


@dataclass(frozen=True, slots=True)
class RegisteredKey:
    """A registered key: who added it, and when."""

    key: OperatorKey
    added_at: int
    added_by: str


@dataclass(frozen=True, slots=True)
class Operator:
    """One operator record. Times are seconds since 1970, UTC."""

    person_uid: str
    """Of this person alone: dual control compares it, and a name that is used again has another."""
    name: str
    role: Role
    created_at: int
    invited_at: int
    invited_by: str
    since: int
    """Certificates from before the person had this role are not theirs."""
    removed_at: int | None = None
    removed_by: str = ""
    keys: tuple[RegisteredKey, ...] = ()
    """In order of their fingerprints; changed by `OperatorRecords.set_keys` alone."""

    def identity(self, trust_domain: str) -> SpiffeId:
        """The SPIFFE ID in this operator's certificates."""
        return SpiffeId(trust_domain, (*self.role.value.split("/"), self.name))

    @property
    def renews_until(self) -> int:
        """The last second at which a certificate renews itself."""
        return self.invited_at + INVITATION_SECONDS


@dataclass(frozen=True, slots=True)
class Approval:
    """The approval of a change that takes two persons."""

    change: str
    approved_at: int
    approved_by: str
    approver: str
    """The person behind `approved_by`."""


class OperatorRecords(Protocol):
    """The records in one transaction. Writing methods raise in a read transaction."""

    def active(self, *, after: str = "", limit: int | None = None) -> Sequence[Operator]:
        """Operators that have not been removed, in order of name, after `after`."""
        ...

    def find(self, name: str) -> Operator | None:
        """The operator with this name now, or None."""
        ...

    def add(self, person: Operator) -> None: ...
    def put_approval(self, approval: Approval) -> None:
        """Store an approval, in the place of an earlier one of the same change."""
        ...

    def take_approval(self, change: str) -> Approval | None:
        """Remove and return the approval of a change, or None."""
        ...

    def update(self, person: Operator) -> None: ...
    def holder_of_key(self, fingerprint: str) -> Operator | None:
        """The operator whose registered key this is. Raises `TrustTableAltered`."""
        ...

    def ssh_authorities(self, person_uid: str) -> Sequence[RegisteredKey]:
        """The SSH CAs that are registered for an operator, in order of their fingerprints."""
        ...

    def set_ssh_authorities(self, person_uid: str, keys: Sequence[RegisteredKey]) -> None:
        """Replace the SSH CAs of an operator."""
        ...

    def set_keys(self, person_uid: str, keys: Sequence[RegisteredKey]) -> None:
        """Replace an operator's keys. The caller has checked that no other operator has one of them."""
        ...
