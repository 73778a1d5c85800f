"""Carry out DetachMember, CleanMember and DissolveArray: each server gets an array of one with a new CA."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from keyreeve import errors
from keyreeve_chassis.database.ports import Store
from keyreeve_chassis.leases.ports import LeaseLost
from keyreeve_chassis.operations.ports import Operation, OperationState
from keyreeve_chassis.processes import failpoints
from keyreeve_membership.authorities.orders import order_at, require_change_of, require_unaltered
from keyreeve_membership.authorities.ports import ArrayAuthorities, ArrayAuthority, KeyType
from keyreeve_membership.changes.progress import end, move, must_succeed, present, publish_members, release
from keyreeve_membership.roll.digests import sha256
from keyreeve_membership.roll.names import default_array_id
from keyreeve_membership.roll.ports import Array, Member, MemberState
from keyreeve_membership.roll.service import Roll, get_array
from keyreeve_membership.store.ports import Transaction

_PREPARED = failpoints.register(
    "membership.leave.prepared", "The CAs of the new arrays exist; the servers have not left."
)
_LEFT = failpoints.register("membership.leave.left", "The servers have left; their old certificates are not revoked.")


@dataclass(frozen=True)
class Leaving:
    """The steps of leaving an array."""

    authorities: ArrayAuthorities
    roll: Roll
    now: Callable[[], int]

    async def step(self, store: Store[Transaction], operation: Operation) -> float:
        """Do what is next; return the seconds to rest."""
        await store.read(
            lambda tx: require_change_of([get_array(tx, present(tx, operation).arguments["array"])], operation)
        )
        if operation.phase == "revoking":
            with must_succeed():
                await self._revoke(store, operation)
            return 0.0
        try:
            await self._leave(store, operation)
        except (errors.Unavailable, LeaseLost):
            raise
        except errors.KeyreeveError as failure:
            await self._undo(store, operation, OperationState.FAILED, failure)
        return 0.0

    async def _leave(self, store: Store[Transaction], operation: Operation) -> None:
        found = await store.read(lambda tx: tx.operations.get(operation.operation_id))
        if found is not None and found.cancel_requested:
            await self._undo(store, operation, OperationState.CANCELLED)
            return
        made = {}
        for member in await store.read(lambda tx: _leaving(tx, operation)):
            made[member.member_uid] = await self._prepare(store, operation, member)
        failpoints.hit(_PREPARED)
        await store.write(lambda tx: self._move(tx, operation, made))
        failpoints.hit(_LEFT)

    async def _prepare(self, store: Store[Transaction], operation: Operation, member: Member) -> ArrayAuthority:
        """Make the CA of a server's new array. May be repeated: all names are made of the operation's."""
        array_id, authority_id = _new_names(operation, member)
        # The new array has had no other change: its orders are one step.
        order = await store.write(lambda tx: order_at(tx, array_id, 1, 1))
        number = authority_id.rpartition("-")[2]
        await self.authorities.create(order, authority_id, f"Array {array_id} {number}", KeyType.P256)
        return await self.authorities.activate(order, authority_id)

    def _move(self, tx: Transaction, operation: Operation, made: dict[str, ArrayAuthority]) -> None:
        array = tx.roll.lock_array(operation.arguments["array"])
        assert array is not None, "arrays are kept"
        move(tx, operation, self.now(), phase="revoking")
        for member in _leaving(tx, operation):
            array_id, _ = _new_names(operation, member)
            self.roll.new_array(tx, array_id, made[member.member_uid], peer_security=array.peer_security)
            alone = replace(
                member,
                array_id=array_id,
                left_array_id=array.array_id,
                state=MemberState.STANDALONE,
                primary=True,
            )
            tx.roll.put_member(alone, "detached", operation.creator)
        left = frozenset(operation.arguments["members"])
        tx.roll.update_array(replace(array, backups=tuple(uid for uid in array.backups if uid not in left)))
        stay = tx.roll.members_of(array.array_id)
        if len(stay) == 1 and stay[0].state is MemberState.MEMBER:
            tx.roll.put_member(replace(stay[0], state=MemberState.STANDALONE), "alone", operation.creator)
        publish_members(tx, self.now())

    async def _revoke(self, store: Store[Transaction], operation: Operation) -> None:
        """Revoke what the servers had from the array's CA; it cannot be undone any more, and is repeated until done."""

        def look(tx: Transaction) -> tuple[str, list[str]]:
            require_unaltered(tx)
            array = get_array(tx, operation.arguments["array"])
            require_change_of([array], operation)
            found = [tx.roll.member_of(uid) for uid in operation.arguments["members"]]
            return array.authority_id, [one.name for one in found if one is not None and _has_left(one, array)]

        authority_id, names = await store.read(look)
        for name in names:
            await self.authorities.revoke_peer(authority_id, name, superseded=False)

        def done(tx: Transaction) -> None:
            end(tx, operation, OperationState.SUCCEEDED, self.now())
            release(tx, operation.arguments["array"], operation)

        await store.write(done)

    async def _undo(
        self,
        store: Store[Transaction],
        operation: Operation,
        how: OperationState,
        failure: errors.KeyreeveError | None = None,
    ) -> None:
        def back(tx: Transaction) -> None:
            reason, message = ("", "") if failure is None else (failure.reason, failure.message)
            end(tx, operation, how, self.now(), reason=reason, message=message)
            for member in _leaving(tx, operation):
                state = MemberState(operation.arguments["members"][member.member_uid])
                tx.roll.put_member(replace(member, state=state), "detach undone", operation.creator, reason)
            release(tx, operation.arguments["array"], operation)
            publish_members(tx, self.now())

        await store.write(back)


def _leaving(tx: Transaction, operation: Operation) -> list[Member]:
    found = [tx.roll.member_of(uid) for uid in operation.arguments["members"]]
    array_id = operation.arguments["array"]
    return [one for one in found if one is not None and (one.state, one.array_id) == (MemberState.DETACHING, array_id)]


def _has_left(member: Member, array: Array) -> bool:
    return member.left_array_id == array.array_id and member.array_id != array.array_id


def _new_names(operation: Operation, member: Member) -> tuple[str, str]:
    """The names of a server's new array and of its CA."""
    number = sha256(f"{operation.operation_id} {member.member_uid}".encode()).hex()[:8]
    array_id = default_array_id(member.name, number)
    return array_id, f"{array_id}-{number}"
