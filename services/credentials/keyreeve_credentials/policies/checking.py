"""The check that each call of the vault passes: membership, policies, and limits on reads."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from keyreeve.caller_values import MemberRecord
from keyreeve.errors import PolicyDenied
from keyreeve.identity import Caller, SpiffeId
from keyreeve.values import MemberState
from keyreeve_credentials.policies.rules import Access, Decision, Standing

_CURRENT = frozenset({MemberState.MEMBER, MemberState.STANDALONE})
"""States in which a server belongs to its array; one that is joining, leaving, detached or quarantined does not."""

Tell = Callable[[str, str], None]
"""Adds to the audit record of the call."""


class Members(Protocol):
    """What the process knows of members (`guard.peers.Members`)."""

    def member(self, identity: SpiffeId | str) -> MemberRecord | None: ...


class Decides(Protocol):
    """The policies in force (`policies.service.PolicyBook`)."""

    def decide(self, access: Access) -> Decision: ...


class Limits(Protocol):
    """Limits on reads (`policies.limits.ReadLimits`)."""

    def count(self, reader: str, owner: str) -> None: ...


def standing_of(record: MemberRecord | None, array_id: str) -> Standing:
    """What a member's record says with regard to an array."""
    if record is None or record.removed or record.array != f"arrays/{array_id}" or record.state not in _CURRENT:
        return Standing.NONE
    return Standing.PRIMARY if record.primary else Standing.MEMBER


@dataclass(frozen=True)
class AccessCheck:
    """Asks on every call, from memory: a detached member is refused as soon as the feed of callers says so."""

    members: Members
    policies: Decides
    limits: Limits

    def check(
        self,
        caller: Caller,
        array_id: str,
        owner: str | None,
        resource: str | None,
        purpose: str,
        *,
        tell_denied: Tell = lambda _f, _v: None,
    ) -> None:
        """Allow an access that is no read of a secret, or comes before one: then simulations need to be told of a denial.

        Raises `PolicyDenied`, `PolicyDamaged`.
        """
        access = self._access(caller, array_id, owner, resource, purpose)
        if not self.policies.decide(access).allowed:
            _tell(access, tell_denied)
            raise _denied(caller, access)

    def allows(self, caller: Caller, array_id: str, owner: str | None, resource: str, purpose: str) -> bool:
        """Whether `check` would allow it."""
        return self.policies.decide(self._access(caller, array_id, owner, resource, purpose)).allowed

    def check_read(
        self,
        caller: Caller,
        array_id: str,
        owner: str,
        resource: str,
        purpose: str,
        *,
        tell: Tell = lambda _f, _v: None,
    ) -> None:
        """Allow a read of a secret, and tell its audit record what it is; simulations evaluate these records.

        Raises `PolicyDenied`, `PolicyDamaged`, `ReadRateExceeded`.
        """
        access = self._access(caller, array_id, owner, resource, purpose)
        _tell(access, tell)
        decision = self.policies.decide(access)
        if not decision.allowed:
            raise _denied(caller, access)
        tell("policy", f"policies/{decision.policy}")
        self.limits.count(str(caller), owner)

    def _access(self, caller: Caller, array_id: str, owner: str | None, resource: str | None, purpose: str) -> Access:
        standing = standing_of(self.members.member(caller.id), array_id)
        return Access("/".join(caller.id.path), standing, array_id, owner, resource, purpose)


def _tell(access: Access, tell: Tell) -> None:
    for field, value in (
        ("array", f"arrays/{access.array_id}"),
        ("owner", access.owner or ""),
        ("resource", access.resource or ""),
        ("purpose", access.purpose),
        ("standing", access.standing.value),
    ):
        tell(field, value)


_STANDINGS: Final = {Standing.NONE: "no member", Standing.MEMBER: "a member", Standing.PRIMARY: "the primary"}


def _denied(caller: Caller, access: Access) -> PolicyDenied:
    place = f"arrays/{access.array_id}"
    return PolicyDenied(
        f"no policy allows {caller} ({_STANDINGS[access.standing]} of {place}) the purpose {access.purpose!r} there",
        metadata={"array": place, "purpose": access.purpose, "standing": access.standing.value},
    )
