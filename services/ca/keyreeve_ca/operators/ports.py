"""People as the use cases see them: the record of one, and the port to the rows."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from keyreeve.identity import Role, SpiffeId
from keyreeve_ca.requests.openssh_keys import OperatorKey

INVITATION_SECONDS = 7 * 86_400
"""How long after the last invitation certificates renew themselves."""


@dataclass(frozen=True, slots=True)
class RegisteredKey:
    """A key in a person's record, and who put it there when."""

    key: OperatorKey
    added_at: int
    added_by: str


@dataclass(frozen=True, slots=True)
class Operator:
    """One record. Times are seconds since 1970, UTC."""

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
        """The SPIFFE ID in this person's certificates."""
        return SpiffeId(trust_domain, (*self.role.value.split("/"), self.name))

    @property
    def renews_until(self) -> int:
        """The last second at which a certificate renews itself."""
        return self.invited_at + INVITATION_SECONDS


class OperatorRecords(Protocol):
    """The records in one transaction. In a read the writing methods raise."""

    def active(self, *, after: str = "", limit: int | None = None) -> Sequence[Operator]:
        """Those who have not been removed in order of name, from the one after `after`."""
        ...

    def find(self, name: str) -> Operator | None:
        """The person who has this name now."""
        ...

    def add(self, person: Operator) -> None: ...
    def update(self, person: Operator) -> None: ...
    def set_keys(self, person_uid: str, keys: Sequence[RegisteredKey]) -> None:
        """Replace a person's keys; a fingerprint that somebody else has is a mistake of the caller."""
        ...
