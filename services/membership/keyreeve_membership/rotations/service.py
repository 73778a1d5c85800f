"""Use cases: start, roll back and waive. Each runs in the caller's transaction."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from keyreeve import errors
from keyreeve_chassis.operations.ports import Operation
from keyreeve_membership.authorities.ports import KeyType
from keyreeve_membership.changes import rules
from keyreeve_membership.changes.progress import ChangedMeanwhile, publish_members
from keyreeve_membership.changes.service import facts_of, lock
from keyreeve_membership.roll.digests import sha256
from keyreeve_membership.roll.ports import Member, MemberState
from keyreeve_membership.roll.service import get_array, get_member
from keyreeve_membership.rotations import machine
from keyreeve_membership.rotations.ports import Phase, Rotation, RotationKind, RotationMember
from keyreeve_membership.store.ports import Transaction

START = "/keyreeve.membership.v1.RotationService/StartRotation"


@dataclass(frozen=True, slots=True)
class NewRotation:
    """What is asked for."""

    kind: RotationKind
    key_type: KeyType = KeyType.P256
    phase_seconds: int = 0
    """EMERGENCY: the time of each phase; 0: no limit."""


@dataclass(frozen=True)
class Rotations:
    """The use cases."""

    now: Callable[[], int]
    now_ms: Callable[[], int]
    lost_seconds: int

    def promote(self, tx: Transaction, name: str, actor: str) -> Rotation:
        """Begin to make a secondary the primary."""
        member = get_member(tx, name)
        facts = facts_of(tx, lock(tx, member.array_id))
        rules.refuse_changing(facts.array)
        if member.primary or member.state is not MemberState.MEMBER:
            raise errors.NotSecondary(f"{name} is no secondary ({member.state})", metadata={"member": name})
        rules.refuse_unreachable(member, facts.reports.get(member.member_uid), self.now_ms(), self.lost_seconds)
        rules.refuse_disagreeing(facts)
        return self._begin(tx, facts, member, NewRotation(RotationKind.PROMOTE), actor)

    def start(self, tx: Transaction, array_id: str, asked: NewRotation, actor: str) -> Rotation:
        """Begin a rotation that keeps the primary."""
        get_array(tx, array_id)
        facts = facts_of(tx, lock(tx, array_id))
        rules.refuse_changing(facts.array)
        if asked.kind is not RotationKind.EMERGENCY or not asked.phase_seconds:
            for one in facts.members:
                if one.counted:
                    rules.refuse_unreachable(one, facts.reports.get(one.member_uid), self.now_ms(), self.lost_seconds)
        if asked.kind is not RotationKind.EMERGENCY:
            rules.refuse_disagreeing(facts)
        primary = next(one for one in facts.members if one.primary)
        return self._begin(tx, facts, primary, asked, actor)

    def roll_back(self, tx: Transaction, rotation_id: str, actor: str) -> Rotation:
        """Turn a rotation back to the CA before it; the runner does the rest."""
        rotation = get_rotation(tx, rotation_id)
        if not machine.may_roll_back(rotation):
            raise errors.RotationStateWrong(
                f"{rotation.resource} is {rotation.phase}", metadata={"phase": rotation.phase}
            )
        after = replace(machine.enter_phase(rotation, Phase.ROLLED_BACK, self.now()), deadline=0)
        self.store(tx, rotation, after)
        for row in tx.rotations.members(rotation_id).values():
            if row.waived:  # it was for the check of a peer port, not for what a rollback waits for
                tx.rotations.put_member(replace(row, waived=False))
        if rotation.was_activated:
            move_primary(tx, rotation.new_primary_uid, rotation.old_primary_uid, actor, "promotion rolled back")
            publish_members(tx, self.now())
        array = replace(lock(tx, rotation.array_id), order_step=after.step)
        epoch = tx.epochs.newest(array.array_id)
        assert epoch is not None, "an array is made with its first epoch"
        old = next(one for one in epoch.authorities if one.authority_id == rotation.old_authority_id)
        tx.roll.update_array(
            replace(array, authority_id=old.authority_id, authority_sha256=sha256(old.certificate_der))
        )
        return after

    def waive(self, tx: Transaction, rotation_id: str, member: str | None) -> Rotation:
        """Take a member's statement alone, or without a member: accept unexpired certificates of the old CA.

        After a rollback, of a member: end without it.
        """
        rotation = get_rotation(tx, rotation_id)
        if not machine.may_waive(rotation, of_member=member is not None):
            raise errors.RotationStateWrong(
                f"{rotation.resource} is {rotation.phase}", metadata={"phase": rotation.phase}
            )
        if member is None:
            after = replace(rotation, old_certificates_waived=True, updated_at=self.now())
            self.store(tx, rotation, after)
            return after
        found = get_member(tx, member)
        if found.array_id != rotation.array_id:
            raise errors.MemberNotFound(
                f"{member} is not in {rotation.array_id}", metadata={"member": member, "array": rotation.array_id}
            )
        known = tx.rotations.members(rotation_id).get(found.member_uid)
        tx.rotations.put_member(replace(known or RotationMember(rotation_id, found.member_uid), waived=True))
        return rotation

    def store(self, tx: Transaction, before: Rotation, after: Rotation) -> None:
        """Store a rotation. Raises `ChangedMeanwhile` when another process was faster."""
        if not tx.rotations.advance(before, after):
            raise ChangedMeanwhile(f"{before.resource} has moved on")

    def _begin(
        self, tx: Transaction, facts: rules.ArrayFacts, primary: Member, asked: NewRotation, actor: str
    ) -> Rotation:
        array, now = facts.array, self.now()
        operation = Operation.begin(START, actor, Phase.PREPARED, {"array": array.array_id}, now)
        rotation_id = operation.operation_id
        operation = replace(operation, arguments={"rotation": rotation_id}, total=len(facts.members))
        tx.operations.add(operation)
        changing = array.with_change(operation.operation_id)
        tx.roll.update_array(changing)
        rotation = Rotation(
            rotation_id,
            array.array_id,
            asked.kind,
            Phase.PREPARED,
            0,
            array.authority_id,
            f"{array.array_id}-{sha256(rotation_id.encode()).hex()[:8]}",
            next(one.member_uid for one in facts.members if one.primary),
            primary.member_uid,
            asked.key_type,
            epoch=0,
            final_epoch=0,
            was_activated=False,
            phase_seconds=asked.phase_seconds,
            deadline=now + asked.phase_seconds if asked.phase_seconds else 0,
            operation_id=operation.operation_id,
            old_certificates_waived=False,
            old_certificates=0,
            creator=actor,
            created_at=now,
            updated_at=now,
        )
        tx.rotations.add(rotation)
        return rotation


def get_rotation(tx: Transaction, rotation_id: str) -> Rotation:
    """A rotation. Raises `RotationNotFound`."""
    found = tx.rotations.get(rotation_id)
    if found is None:
        raise errors.RotationNotFound(
            f"there is no rotation {rotation_id[:80]!a}", metadata={"rotation": rotation_id[:80]}
        )
    return found


def move_primary(tx: Transaction, from_uid: str, to_uid: str, actor: str, event: str) -> None:
    """Make another member the primary of its array, in one transaction."""
    if from_uid == to_uid:
        return
    before, after = tx.roll.member_of(from_uid), tx.roll.member_of(to_uid)
    assert before is not None, "records of servers are kept"
    assert after is not None, "records of servers are kept"
    # In this order: the database allows one primary to an array at any time.
    tx.roll.put_member(replace(before, primary=False), event, actor)
    tx.roll.put_member(replace(after, primary=True), event, actor)
    array = lock(tx, after.array_id)
    backups = tuple(uid for uid in array.backups if uid != to_uid)
    tx.roll.update_array(replace(array, backups=(*backups, from_uid)))
