"""Use cases: begin a structural change. Each checks everything, then records the operation that carries it out."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from keyreeve import errors
from keyreeve_chassis.operations.ports import Operation
from keyreeve_membership.changes import rules
from keyreeve_membership.changes.progress import publish_members
from keyreeve_membership.changes.rules import ArrayFacts
from keyreeve_membership.roll.ports import Array, Member, MemberState
from keyreeve_membership.roll.service import get_array, get_member
from keyreeve_membership.roll.views import who_disagrees
from keyreeve_membership.store.ports import Transaction

_SERVICE = "/keyreeve.membership.v1.ArrayService/"
JOIN, DETACH = _SERVICE + "JoinArray", _SERVICE + "DetachMember"
DISSOLVE, CLEAN = _SERVICE + "DissolveArray", _SERVICE + "CleanMember"


@dataclass(frozen=True)
class Changes:
    """The use cases, each inside the caller's transaction."""

    now: Callable[[], int]
    now_ms: Callable[[], int]
    lost_seconds: int
    """Age of a report from which a server counts as unreachable."""

    def join(
        self,
        tx: Transaction,
        primary: str,
        secondary: str,
        accepted_sha256: bytes,
        actor: str,
        *,
        by_agent: bool = False,
    ) -> Operation:
        """Begin to add a server to an array, for a person or for its agent. Raises the reasons of `rules.refuse_join`."""
        first, second = get_member(tx, primary), get_member(tx, secondary)
        # In one order everywhere, so that two joins never wait for each other.
        locked = {array_id: lock(tx, array_id) for array_id in sorted({first.array_id, second.array_id})}
        target, own = facts_of(tx, locked[first.array_id]), facts_of(tx, locked[second.array_id])
        rules.refuse_join(
            target,
            first,
            own,
            second,
            accepted_sha256=accepted_sha256,
            by_agent=by_agent,
            now_ms=self.now_ms(),
            lost_seconds=self.lost_seconds,
        )
        arguments = {
            "member_uid": second.member_uid,
            "array": target.array.array_id,
            "own_array": own.array.array_id,
        }
        operation = Operation.begin(JOIN, actor, "joining", arguments, self.now())
        tx.operations.add(operation)
        for array in (target.array, own.array):
            tx.roll.update_array(array.with_change(operation.operation_id))
        joining = replace(second, state=MemberState.JOINING, joining_array_id=target.array.array_id)
        tx.roll.put_member(joining, "joining", actor)
        publish_members(tx, self.now())
        return operation

    def detach(self, tx: Transaction, name: str, actor: str) -> Operation:
        """Begin to remove a secondary from its array."""
        member = get_member(tx, name)
        facts = facts_of(tx, lock(tx, member.array_id))
        rules.refuse_leaving(facts, member)
        rules.refuse_disagreeing(facts, without=(member.name,))
        return self._leave(tx, DETACH, facts.array, [member], actor)

    def clean(self, tx: Transaction, name: str, actor: str, *, only_if_disagreeing: bool) -> Operation:
        """Begin to return a server to an array of one, whatever its array says."""
        member = get_member(tx, name)
        facts = facts_of(tx, lock(tx, member.array_id))
        rules.refuse_leaving(facts, member)
        if only_if_disagreeing and not who_disagrees(facts.array, facts.members, facts.reports):
            raise errors.ViewsAgree(
                f"all members of {facts.array.array_id} see it as the roll does", metadata={"member": name}
            )
        return self._leave(tx, CLEAN, facts.array, [member], actor)

    def dissolve(self, tx: Transaction, array_id: str, actor: str) -> Operation:
        """Begin to detach all secondaries of an array."""
        get_array(tx, array_id)
        facts = facts_of(tx, lock(tx, array_id))
        rules.refuse_changing(facts.array)
        return self._leave(tx, DISSOLVE, facts.array, [one for one in facts.members if not one.primary], actor)

    def _leave(self, tx: Transaction, method: str, array: Array, leaving: Sequence[Member], actor: str) -> Operation:
        states = {one.member_uid: one.state.value for one in leaving}
        arguments = {"array": array.array_id, "members": states}
        operation = replace(Operation.begin(method, actor, "preparing", arguments, self.now()), total=len(leaving))
        tx.operations.add(operation)
        tx.roll.update_array(array.with_change(operation.operation_id))
        for member in leaving:
            tx.roll.put_member(replace(member, state=MemberState.DETACHING), "detaching", actor)
        publish_members(tx, self.now())
        return operation


def lock(tx: Transaction, array_id: str) -> Array:
    """An array that exists, locked."""
    found = tx.roll.lock_array(array_id)
    assert found is not None, "a member's array exists"
    return found


def facts_of(tx: Transaction, array: Array) -> ArrayFacts:
    """What decides about a change of an array."""
    members = tuple(tx.roll.members_of(array.array_id))
    return ArrayFacts(array, members, tx.roll.reports([one.member_uid for one in members]))
