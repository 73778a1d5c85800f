"""Read how far the members of a rotation's array are."""

from dataclasses import dataclass

from keyreeve_membership.roll.ports import Array, Member
from keyreeve_membership.roll.service import get_array
from keyreeve_membership.rotations.machine import Progress
from keyreeve_membership.rotations.ports import Rotation, RotationMember
from keyreeve_membership.store.ports import Transaction


@dataclass(frozen=True, slots=True)
class RotationState:
    """A rotation with everything that decides about its next step."""

    rotation: Rotation
    array: Array
    members: tuple[Member, ...]
    """The counted ones."""
    progress: tuple[Progress, ...]
    """Of the counted members, in the same order."""
    known: dict[str, RotationMember]
    boots: dict[str, str]
    """The present start of each member's agent, by uid."""

    @property
    def quarantined(self) -> int:
        """How many members the rotation has quarantined by itself."""
        return sum(one.quarantined for one in self.known.values())


def read_state(tx: Transaction, rotation: Rotation) -> RotationState:
    """Read it in one transaction."""
    array = get_array(tx, rotation.array_id)
    members = tuple(one for one in tx.roll.members_of(array.array_id) if one.counted)
    uids = [one.member_uid for one in members]
    reports, acknowledged = tx.roll.report_facts(uids), tx.roll.acknowledgements(uids)
    known = tx.rotations.members(rotation.rotation_id)
    progress = []
    for member in members:
        report, said = reports.get(member.member_uid), acknowledged.get(member.member_uid)
        mine = known.get(member.member_uid, RotationMember(rotation.rotation_id, member.member_uid))
        boot_id = "" if report is None else report.boot_id
        counts = said is not None and said.array_id == array.array_id and said.boot_id == boot_id
        progress.append(
            Progress(
                member.member_uid,
                member.name,
                member.primary,
                acknowledged=said.epoch if said is not None and counts else 0,
                checked=bool(boot_id) and mine.checked_boot_id == boot_id,
                waived=mine.waived,
                presents="" if report is None else report.authority_id,
                cloned=report is not None and report.cloned,
                loaded=said.epoch if said is not None and said.array_id == array.array_id else 0,
            )
        )
    boots = {uid: report.boot_id for uid, report in reports.items()}
    return RotationState(rotation, array, members, tuple(progress), known, boots)
