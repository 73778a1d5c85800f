"""The state machine of rotations: what each phase waits for, and what follows it. Values in, values out; no I/O.

    prepared -> distributed -> activated -> reissued -> distrusted
        \\------------\\-------------\\------------\\---> rolled_back

No CA issues before every counted member has acknowledged the epoch with it and its peer port has answered a check; none is
dropped while a counted member presents a certificate of it. Quarantined members are not counted.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from keyreeve_membership.rotations.ports import Phase, Rotation, RotationKind

_ENDS_WITHOUT_ROLLBACK = {Phase.DISTRUSTED, Phase.ROLLED_BACK}
_ANSWER = "answer a check of its peer port"
QUARANTINE_SHARE = 20
"""Automatic quarantine never exceeds one member in so many (5 %), or one."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far one member of the array is."""

    member_uid: str
    name: str
    primary: bool
    acknowledged: int
    """The newest epoch that the present start of its agent has acknowledged with the epoch's digest; 0: none."""
    checked: bool
    """Its peer port has answered a check with a certificate of the new CA, at the present start of its agent."""
    waived: bool
    """An admin takes its statement alone."""
    presents: str
    """The authority of the peer certificate that it uses; empty: none."""
    cloned: bool = False
    loaded: int = 0
    """The newest epoch that any start of its agent has acknowledged; 0: none."""


@dataclass(frozen=True, slots=True)
class Wait:
    """What a rotation waits for from one member."""

    member_uid: str
    name: str
    what: str


def waits(rotation: Rotation, members: Iterable[Progress], *, secured: bool) -> list[Wait]:
    """What the present phase waits for from the counted members; empty: it is complete as far as they are concerned.

    Without peer security there are no peer certificates and no peer ports: a member's statement is all there is.
    """
    found = []
    for member in members:
        what = "run once: two boots of it report in turn" if member.cloned else _waits_for(rotation, member, secured)
        if what:
            found.append(Wait(member.member_uid, member.name, what))
    return found


def _waits_for(rotation: Rotation, member: Progress, secured: bool) -> str:
    new, presents_new = rotation.new_authority_id, member.presents == rotation.new_authority_id
    what = ""
    match rotation.phase:
        case Phase.DISTRIBUTED:
            if member.acknowledged < rotation.epoch:
                what = f"load epoch {rotation.epoch}"
            elif secured and not (member.checked or member.waived):
                what = _ANSWER
        case Phase.ACTIVATED | Phase.REISSUED:
            # After REISSUED an old certificate may have come back: a member that was put back to a snapshot.
            what = f"use a certificate of {new}" if secured and not presents_new else ""
        case Phase.DISTRUSTED:
            what = f"load epoch {rotation.final_epoch}" if member.acknowledged < rotation.final_epoch else ""
        case Phase.ROLLED_BACK if not member.waived:
            # A member that has never loaded the epoch with the new CA has nothing to go back from.
            returned = member.loaded < rotation.epoch or member.acknowledged >= rotation.final_epoch
            if secured and rotation.was_activated and presents_new:
                what = f"use a certificate of {rotation.old_authority_id}"
            elif rotation.final_epoch and not returned:
                what = f"load epoch {rotation.final_epoch}"
    return what


def told(what: str, problem: str) -> str:
    """What is said of a wait: when it is for a check that has failed, how that failed."""
    return problem if problem and what == _ANSWER else what


def enter_phase(rotation: Rotation, phase: Phase, now: int) -> Rotation:
    """The rotation in its next phase."""
    deadline = now + rotation.phase_seconds if rotation.phase_seconds else 0
    return replace(
        rotation,
        phase=phase,
        step=rotation.step + 1,
        was_activated=rotation.was_activated or phase is Phase.ACTIVATED,
        deadline=deadline,
        updated_at=now,
    )


def may_roll_back(rotation: Rotation) -> bool:
    """Whether a rotation can be rolled back: until it has distrusted the old CA."""
    return rotation.ended_at is None and rotation.phase not in _ENDS_WITHOUT_ROLLBACK


def may_waive(rotation: Rotation, *, of_member: bool) -> bool:
    """Whether something can be waived: until it has distrusted the old CA; of a member also while it is rolled back."""
    rolled_back = rotation.ended_at is None and rotation.phase is Phase.ROLLED_BACK
    return may_roll_back(rotation) or (of_member and rolled_back)


def needs_peer_check(rotation: Rotation, member: Progress) -> bool:
    """Whether it is time to check a member's peer port: it has said that it is ready, and nothing has shown it."""
    return rotation.phase is Phase.DISTRIBUTED and member.acknowledged >= rotation.epoch and not member.checked


def to_quarantine(
    rotation: Rotation, late: Sequence[Wait], members: Sequence[Progress], *, quarantined: int, now: int
) -> list[Wait]:
    """The members that an emergency goes on without, after its deadline: within the limit, all of them or none.

    Beyond max(1, 5 %) of the array it waits for a person. The primary is never among them.
    """
    if rotation.kind is not RotationKind.EMERGENCY or not rotation.deadline or now < rotation.deadline:
        return []
    primaries = {one.member_uid for one in members if one.primary}
    if any(one.member_uid in primaries for one in late):
        return []
    limit = max(1, (len(members) + quarantined) // QUARANTINE_SHARE)
    return list(late) if late and quarantined + len(late) <= limit else []
