"""Tell the CA what has changed in the roll: it tells every service, whose guards judge servers by it."""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

from keyreeve_chassis.database.ports import Store
from keyreeve_chassis.operations.ports import Operation, OperationState
from keyreeve_chassis.processes import failpoints
from keyreeve_membership.authorities.orders import order_of, require_unaltered
from keyreeve_membership.authorities.ports import ArrayAuthorities, MemberFact, Order
from keyreeve_membership.changes.progress import end, must_succeed
from keyreeve_membership.roll.ports import Member, MemberState
from keyreeve_membership.roll.service import get_array
from keyreeve_membership.store.ports import Transaction

_BATCH = 500
_TOLD = failpoints.register("membership.publish.told", "The CA knows of changed members; that is not recorded.")


@dataclass(frozen=True)
class Publishing:
    """The steps of telling the CA."""

    authorities: ArrayAuthorities
    now: Callable[[], int]

    async def step(self, store: Store[Transaction], operation: Operation) -> float:
        """Tell what has changed since the last time, or end."""
        batch, revision = await store.write(lambda tx: self._unpublished(tx, operation))
        for order, facts in batch.values():
            with must_succeed():
                await self.authorities.set_members(order, facts)
        if batch:
            failpoints.hit(_TOLD)
            # A member that has changed meanwhile has a higher revision, and is told again.
            await store.write(lambda tx: tx.roll.set_published(revision))
        return 0.0

    def _unpublished(
        self, tx: Transaction, operation: Operation
    ) -> tuple[dict[str, tuple[Order, list[MemberFact]]], int]:
        rows = tx.roll.changed(tx.roll.published(), _BATCH)
        if not rows:
            end(tx, operation, OperationState.SUCCEEDED, self.now())
            return {}, 0
        require_unaltered(tx)
        grouped: dict[str, list[MemberFact]] = defaultdict(list)
        for member in rows:
            grouped[member.array_id].append(_fact(member))
        orders = {array_id: (order_of(tx, get_array(tx, array_id)), facts) for array_id, facts in grouped.items()}
        return orders, rows[-1].revision


def _fact(member: Member) -> MemberFact:
    removed = member.state is MemberState.DETACHED
    return MemberFact(member.member_uid, member.name, member.array_id, member.state.value, member.primary, removed)
