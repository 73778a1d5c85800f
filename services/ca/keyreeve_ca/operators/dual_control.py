"""Dual control: which changes of operators take two persons, and who may be one of them.

An admin who could invite another one alone would be two persons by themselves. So where `operators.two_persons` is set, inviting
an admin, raising a role, and removing or lowering an admin need the approval of another admin, and both have been known for
seven days. The first admins come from the local admin socket and were invited by nobody.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from keyreeve import errors
from keyreeve.identity import OPERATOR_ROLES, Role, SpiffeId
from keyreeve_ca.operators.ports import APPROVAL_SECONDS, Actor, Approval, Operator, OperatorRecords

KNOWN_SECONDS = 7 * 86_400
"""How long a person has been known who counts for dual control."""
_RANKS = {Role.AUDITOR: 0, Role.OPERATOR: 1, Role.ADMIN: 2}
REMOVED = "removed"


class HasOperators(Protocol):
    """The part of a transaction with the records."""

    @property
    def operators(self) -> OperatorRecords: ...


class HasPeople(HasOperators, Protocol):
    """The same, with what says whether a person's certificates were revoked."""

    def refuse_altered_approvals(self) -> None:
        """Raise `TrustTableAltered` when an earlier approval, or an operator's earlier record, may have been put back."""
        ...

    def is_revoked_since(self, identity: str, since: int) -> bool:
        """Whether a certificate of this identity was revoked at this time or later."""
        ...


def actor_of(tx: HasOperators, caller: str) -> Actor:
    """The caller, the person whom dual control compares, and since when they have been known."""
    identity = SpiffeId.parse(caller)
    known = tx.operators.find(identity.path[-1]) if identity.role in OPERATOR_ROLES else None
    return Actor(caller, caller) if known is None else Actor(caller, known.person_uid, known.created_at)


def refuse_unknown_person(actor: Actor, now: int) -> None:
    """Raise `SecondPersonRequired` for a person who has not been known for seven days."""
    if now - actor.known_since < KNOWN_SECONDS:
        raise errors.SecondPersonRequired(
            f"{actor.identity} has been known for less than 7 days; in a new control plane, act over the local socket",
            metadata={"approver": actor.identity},
        )


def is_approved(tx: HasPeople, person: str, identity: str, approved_at: int | None, now: int) -> bool:
    """Whether an approval counts: given within an hour, by a person who has been an admin ever since.

    A certificate of theirs that was revoked since may be the one with which another party approved. Raises
    `TrustTableAltered`.
    """
    if approved_at is None or not approved_at <= now <= approved_at + APPROVAL_SECONDS:
        return False
    tx.refuse_altered_approvals()
    known = tx.operators.find(SpiffeId.parse(identity).path[-1])
    if known is None or known.person_uid != person or known.role is not Role.ADMIN or known.since > approved_at:
        return False
    return not tx.is_revoked_since(identity, approved_at)


def change_of(name: str, role: Role | None) -> str:
    """What is approved: a role for an operator, or their removal."""
    return f"{name} {REMOVED if role is None else role.value}"


def takes_two(known: Operator | None, role: Role | None) -> bool:
    """Whether giving this role to an operator, or removing them (None), takes two persons."""
    if role is Role.ADMIN or (known is not None and known.role is Role.ADMIN):
        return True
    return known is not None and role is not None and _RANKS[role] > _RANKS[known.role]


@dataclass(frozen=True)
class DualControl:
    """The use cases. Every method runs in the caller's transaction."""

    now: Callable[[], int]
    on: bool

    def approve(self, tx: HasOperators, actor: Actor, name: str, role: Role | None) -> Approval:
        """Approve a change that another admin makes within an hour. Raises `SecondPersonRequired`."""
        if self.on:
            refuse_unknown_person(actor, self.now())
        made = Approval(change_of(name, role), self.now(), actor.identity, actor.person)
        tx.operators.put_approval(made)
        return made

    def check(self, tx: HasPeople, by: str, name: str, role: Role | None) -> Approval | None:
        """Use up the approval of a change, where it takes two persons; return it. Raises `SecondPersonRequired`."""
        if not self.on or not takes_two(tx.operators.find(name), role):
            return None
        actor, now, change = actor_of(tx, by), self.now(), change_of(name, role)
        refuse_unknown_person(actor, now)
        approval = tx.operators.take_approval(change)
        if approval is None or not is_approved(tx, approval.approver, approval.approved_by, approval.approved_at, now):
            raise errors.SecondPersonRequired(
                "this takes two persons: another admin has to approve it first (`keyreeve operator approve`)",
                metadata={"change": change},
            )
        if approval.approver == actor.person:
            raise errors.SecondPersonRequired(
                f"{approval.approved_by} has approved it; another admin has to make the change",
                metadata={"approver": approval.approved_by},
            )
        return approval
