"""Remove a server that stands alone for good: its name is free, and a later server of that name inherits nothing."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from keyreeve import errors
from keyreeve_chassis.database.ports import Store
from keyreeve_chassis.operations.ports import Operation, OperationState
from keyreeve_membership.authorities.orders import altered_operation, order_of, require_change_of, require_unaltered
from keyreeve_membership.authorities.ports import ArrayAuthorities, Order
from keyreeve_membership.changes import rules
from keyreeve_membership.changes.progress import end, must_succeed, publish_members, release
from keyreeve_membership.changes.service import lock
from keyreeve_membership.roll.ports import ArrayState, Member, MemberState
from keyreeve_membership.roll.service import get_array, get_member
from keyreeve_membership.store.ports import Transaction

REMOVE = "/keyreeve.membership.v1.MemberService/RemoveMember"


@dataclass(frozen=True)
class Removing:
    """The use case, inside the caller's transaction, and the step that destroys the CA of the server's array."""

    authorities: ArrayAuthorities
    now: Callable[[], int]

    def remove(self, tx: Transaction, name: str, actor: str) -> Member:
        """Remove a server and its array of one. Raises `MemberNotFound`, `NotStandalone`, `ChangeInProgress`."""
        member = get_member(tx, name)
        array = lock(tx, member.array_id)
        rules.refuse_changing(array)
        if len(tx.roll.members_of(array.array_id)) > 1:
            raise errors.NotStandalone(
                f"{name} is {member.state} in {array.array_id}", metadata={"member": name, "array": array.array_id}
            )
        operation = Operation.begin(REMOVE, actor, "destroying", {"array": array.array_id}, self.now())
        tx.operations.add(operation)
        tx.roll.update_array(replace(array.with_change(operation.operation_id), state=ArrayState.DISSOLVED, backups=()))
        gone = tx.roll.put_member(replace(member, state=MemberState.DETACHED, primary=False), "removed", actor)
        publish_members(tx, self.now())
        return gone

    async def step(self, store: Store[Transaction], operation: Operation) -> float:
        """Destroy the CA of the array."""

        def look(tx: Transaction) -> tuple[Order, str]:
            require_unaltered(tx)
            array = get_array(tx, operation.arguments["array"])
            require_change_of([array], operation)
            if array.state is not ArrayState.DISSOLVED:
                raise altered_operation(operation)
            return order_of(tx, array), array.authority_id

        found = await store.write(look)
        with must_succeed():
            await self.authorities.destroy(*found)

        def done(tx: Transaction) -> None:
            end(tx, operation, OperationState.SUCCEEDED, self.now())
            release(tx, operation.arguments["array"], operation)

        await store.write(done)
        return 0.0
