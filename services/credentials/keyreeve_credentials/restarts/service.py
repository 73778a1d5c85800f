"""A new key after a restart of a member: at most one sweep at a time, and an hour apart for an array.

A restart is a changed boot id of a current member, never a start of this service. Requests that come while a key is new, or
while values are re-encrypted, wait and count as one.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from keyreeve_chassis.database.ports import Store
from keyreeve_credentials.keys.ports import KekState
from keyreeve_credentials.keys.service import ROTATE, Keys
from keyreeve_credentials.restarts.ports import Boot, Boots

APART_SECONDS = 3_600


@dataclass(frozen=True)
class NewKeyOnRestart:
    """The use case; `look` is called now and then by the process that leads it."""

    keys: Keys
    store: Store[Any]
    boots: Boots
    now: Callable[[], int]
    creator: str
    """SPIFFE ID of the service, which begins these operations."""

    async def look(self) -> list[str]:
        """Note restarts, and begin what is due; the arrays that get a new key now."""
        boots = await self.boots.present()
        if await self.store.read(lambda tx: bool(_changed(tx, boots))):
            await self.store.write(lambda tx: self._note(tx, boots))
        due = await self.store.read(self._due)
        if due is None:
            return []
        await self.keys.rotate(due, self.creator)
        await self.store.write(lambda tx: tx.boots.withdraw(due))
        return [due]

    def _note(self, tx: Any, boots: Sequence[Boot]) -> None:  # noqa: ANN401 - the service's transaction
        known = tx.boots.known()
        for boot in _changed(tx, boots):
            tx.boots.put(boot)
            if boot.member_uid in known and tx.keks.writer(boot.array_id) is not None:
                tx.boots.request(boot.array_id, self.now())

    def _due(self, tx: Any) -> str | None:  # noqa: ANN401
        if any(operation.method == ROTATE for operation in tx.operations.running()):
            return None
        for array_id in tx.boots.requests():
            newest = [kek.created_at for kek in tx.keks.of_array(array_id) if kek.state is KekState.WRITER]
            if not newest or self.now() - newest[0] >= APART_SECONDS:
                found: str = array_id
                return found
        return None


def _changed(tx: Any, boots: Sequence[Boot]) -> list[Boot]:  # noqa: ANN401
    """The starts that are not known yet."""
    known = tx.boots.known()
    return [boot for boot in boots if known.get(boot.member_uid) != boot.boot_id]
