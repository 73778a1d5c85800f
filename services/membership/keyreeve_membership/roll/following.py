"""Follow the roll for a stream: its caller may be the agent of a server that leaves the array."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from keyreeve.identity import Caller, Role
from keyreeve_chassis.changes.shared_reads import SharedReads
from keyreeve_chassis.database.ports import Store
from keyreeve_membership.roll.access import require_array_of
from keyreeve_membership.roll.ports import Member
from keyreeve_membership.store.ports import Transaction

BATCH = 64
"""Members in one message of a stream, which keeps its last one while it waits: one for each member of the array watches."""


def changed_members(after: int, tx: Transaction) -> tuple[Sequence[Member], int]:
    """Members changed after a revision of the roll, and its newest."""
    return tx.roll.changed(after, BATCH), tx.roll.revision()


@dataclass
class StreamOfArray:
    """What a stream about an array asks before each message, and after each change of the roll."""

    caller: Caller
    array_id: str
    store: Store[Transaction]
    roll: SharedReads[Transaction]
    """Follows the roll for all streams of the process."""
    _after: int = -1

    async def require_array(self) -> None:
        """Refuse the agent of a server that is no longer in the array, nor joining it. Raises `AccessDenied`."""
        if self.caller.role is not Role.MEMBER:
            return
        own, moved = self.caller.id.path[-1], self._after < 0
        complete = moved
        while not complete:
            members, revision = await self.roll.read(self._after, partial(changed_members, self._after))
            moved = moved or any(one.name == own for one in members)
            complete = len(members) < BATCH
            self._after = revision if complete else members[-1].revision
        if moved:  # the array that a server is in changes with its record alone
            self._after = await self.store.read(self._look)

    def _look(self, tx: Transaction) -> int:
        require_array_of(tx, self.caller, self.array_id)
        return tx.roll.revision()
