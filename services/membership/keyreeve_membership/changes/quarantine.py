"""Take a dead member out of the count, and back."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from keyreeve import errors
from keyreeve_chassis.database.ports import Store
from keyreeve_chassis.operations.ports import Operation, OperationState
from keyreeve_membership.authorities.orders import require_unaltered
from keyreeve_membership.authorities.ports import ArrayAuthorities
from keyreeve_membership.changes.progress import end, must_succeed, publish_members
from keyreeve_membership.roll.ports import Member, MemberState
from keyreeve_membership.roll.service import get_array, get_member
from keyreeve_membership.store.ports import Transaction

QUARANTINE = "/keyreeve.membership.v1.MemberService/QuarantineMember"


@dataclass(frozen=True)
class Quarantine:
    """The use cases, each inside the caller's transaction, and the step that revokes certificates."""

    authorities: ArrayAuthorities
    now: Callable[[], int]

    def quarantine(self, tx: Transaction, name: str, actor: str, comment: str) -> Member:
        """Quarantine a secondary; the primary only while a rotation waits for it.

        Then no other member can be promoted, and after its last phase the rotation cannot be rolled back either.
        """
        member = get_member(tx, name)
        if member.primary and tx.rotations.get(get_array(tx, member.array_id).change) is None:
            raise errors.PrimaryCannotDetach(f"{name} is the primary of its array", metadata={"member": name})
        if member.state is not MemberState.MEMBER:
            raise errors.MemberStateWrong(f"{name} is {member.state}", metadata={"member": name, "state": member.state})
        return put_in_quarantine(tx, member, actor, comment, self.now())

    def readmit(self, tx: Transaction, name: str, actor: str) -> Member:
        """Take a quarantined member back, or a cloned server that stands alone; what its clones did is forgotten."""
        member = get_member(tx, name)
        report = tx.roll.report(member.member_uid)
        cloned = report is not None and report.cloned
        if member.state is not MemberState.QUARANTINED and not (cloned and member.state is MemberState.STANDALONE):
            raise errors.MemberStateWrong(f"{name} is {member.state}", metadata={"member": name, "state": member.state})
        if any(one.method == QUARANTINE and one.arguments["member"] == name for one in tx.operations.running()):
            raise errors.MemberStateWrong(
                f"the certificates of {name} are still being revoked", metadata={"member": name, "state": member.state}
            )
        if report is not None:
            tx.roll.put_report(replace(report, cloned=False, former_boot_id=""))
        alone = len(tx.roll.members_of(member.array_id)) == 1
        state = MemberState.STANDALONE if alone else MemberState.MEMBER
        back = tx.roll.put_member(replace(member, state=state), "readmitted", actor)
        publish_members(tx, self.now())
        return back

    async def step(self, store: Store[Transaction], operation: Operation) -> float:
        """Revoke what a quarantined member has; of one that has left its array, leaving has revoked it."""
        arguments = operation.arguments

        def authorities(tx: Transaction) -> list[str]:
            require_unaltered(tx)
            member = tx.roll.member(arguments["member"])
            if member is not None and member.state is MemberState.DETACHING:
                raise errors.StoreUnavailable(f"{member.name} is leaving its array: that comes first")
            return arguments["authorities"] if member is not None and member.state is MemberState.QUARANTINED else []

        for authority_id in await store.read(authorities):
            with must_succeed():
                await self.authorities.revoke_peer(authority_id, arguments["member"], superseded=False)
        await store.write(lambda tx: end(tx, operation, OperationState.SUCCEEDED, self.now()))
        return 0.0


def put_in_quarantine(tx: Transaction, member: Member, actor: str, comment: str, now: int) -> Member:
    """Quarantine a member, and have its certificates revoked."""
    gone = tx.roll.put_member(replace(member, state=MemberState.QUARANTINED), "quarantined", actor, comment)
    epoch = tx.epochs.newest(member.array_id)
    authorities = [] if epoch is None else [one.authority_id for one in epoch.authorities]
    arguments = {"member": member.name, "authorities": authorities}
    tx.operations.add(Operation.begin(QUARANTINE, actor, "revoking", arguments, now))
    publish_members(tx, now)
    return gone
