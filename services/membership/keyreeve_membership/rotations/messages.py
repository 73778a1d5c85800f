"""Messages of rotations."""

from collections.abc import Sequence

from keyreeve.membership.v1 import rotation_service_pb2 as pb
from keyreeve_chassis.guard.call import timestamp
from keyreeve_chassis.operations.ports import Waiting
from keyreeve_membership.authorities.ports import KeyType
from keyreeve_membership.rotations.machine import told, waits
from keyreeve_membership.rotations.ports import Phase, Rotation, RotationKind, RotationMember
from keyreeve_membership.rotations.progress import read_state
from keyreeve_membership.rotations.steps import evidence_of
from keyreeve_membership.store.ports import Transaction

KINDS = {
    pb.ROTATION_KIND_SCHEDULED: RotationKind.SCHEDULED,
    pb.ROTATION_KIND_ALGORITHM_CHANGE: RotationKind.ALGORITHM_CHANGE,
    pb.ROTATION_KIND_EMERGENCY: RotationKind.EMERGENCY,
}
"""The kinds that StartRotation takes."""
_ALL_KINDS = {value: number for number, value in KINDS.items()} | {RotationKind.PROMOTE: pb.ROTATION_KIND_PROMOTE}
KEY_TYPES = {
    pb.ROTATION_KEY_TYPE_P256: KeyType.P256,
    pb.ROTATION_KEY_TYPE_P384: KeyType.P384,
    pb.ROTATION_KEY_TYPE_RSA3072: KeyType.RSA3072,
}
_PHASES = {
    Phase.PREPARED: pb.ROTATION_PHASE_PREPARED,
    Phase.DISTRIBUTED: pb.ROTATION_PHASE_DISTRIBUTED,
    Phase.ACTIVATED: pb.ROTATION_PHASE_ACTIVATED,
    Phase.REISSUED: pb.ROTATION_PHASE_REISSUED,
    Phase.DISTRUSTED: pb.ROTATION_PHASE_DISTRUSTED,
    Phase.ROLLED_BACK: pb.ROTATION_PHASE_ROLLED_BACK,
}
_EVIDENCE = {
    "": pb.EVIDENCE_UNSPECIFIED,
    "statement": pb.EVIDENCE_STATEMENT,
    "peer_check": pb.EVIDENCE_PEER_CHECK,
}


def rotation_message(tx: Transaction, rotation: Rotation, *, members: bool = True) -> pb.Rotation:
    """A rotation as a message, with what is known of its array's members."""
    message = pb.Rotation(
        name=rotation.resource,
        array=f"arrays/{rotation.array_id}",
        kind=_ALL_KINDS[rotation.kind],
        phase=_PHASES[rotation.phase],
        step=rotation.step,
        old_authority=f"authorities/{rotation.old_authority_id}",
        new_authority=f"authorities/{rotation.new_authority_id}",
        epoch=rotation.epoch,
        final_epoch=rotation.final_epoch,
        deadline_time=timestamp(rotation.deadline or None),
        operation=f"operations/{rotation.operation_id}",
        old_certificates_waived=rotation.old_certificates_waived,
        old_certificates=rotation.old_certificates,
        create_time=timestamp(rotation.created_at),
        update_time=timestamp(rotation.updated_at),
        end_time=timestamp(rotation.ended_at),
    )
    if rotation.kind is RotationKind.PROMOTE:
        primary = tx.roll.member_of(rotation.new_primary_uid)
        message.new_primary = primary.resource if primary is not None else ""
    if members and rotation.ended_at is None:
        operation = tx.operations.get(rotation.operation_id)
        waiting = () if operation is None else operation.waiting
        message.waiting = next((one.reason for one in waiting if not one.resource.startswith("members/")), "")
        message.members.extend(_members(tx, rotation, waiting))
    return message


def _members(tx: Transaction, rotation: Rotation, stored: Sequence[Waiting]) -> list[pb.RotationMember]:
    state = read_state(tx, rotation)
    waiting = {one.member_uid: one.what for one in waits(rotation, state.progress, secured=state.array.peer_security)}
    since = {one.resource: one.since for one in stored}
    found = []
    for member, progress in zip(state.members, state.progress, strict=True):
        mine = state.known.get(member.member_uid, RotationMember(rotation.rotation_id, member.member_uid))
        what = waiting.get(member.member_uid, "")
        found.append(
            pb.RotationMember(
                member=member.resource,
                evidence=_EVIDENCE[evidence_of(progress, rotation)],
                waived=mine.waived,
                reissued=progress.presents == rotation.new_authority_id,
                waiting=told(what, mine.waiting),
                wait_start_time=timestamp(since.get(member.resource)) if what else None,
            )
        )
    for uid, row in state.known.items():
        gone = tx.roll.member_of(uid) if row.quarantined else None
        if gone is not None:
            found.append(pb.RotationMember(member=gone.resource, quarantined=True))
    return found
