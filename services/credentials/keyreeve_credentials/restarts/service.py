"""A new key after a restart of a member: at most one sweep at a time, and an hour apart for an array.

A restart is a changed boot id of a current member, never a start of this service. Requests that come while a key is new, or
while values are re-encrypted, wait and count as one; they are withdrawn when the array's setting is turned off.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from keyreeve_chassis.database.ports import Store
from keyreeve_credentials.keys.ports import KekState
from keyreeve_credentials.keys.service import ROTATE, Keys
from keyreeve_credentials.launch_settings.layers import LaunchSettings
from keyreeve_credentials.launch_settings.service import read_settings
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
    defaults: LaunchSettings
    """The launch settings of arrays that have set none."""

    async def look(self) -> list[str]:
        """Note restarts, and begin what is due; the arrays that get a new key now."""
        boots = await self.boots.present()
        if await self.store.read(lambda tx: bool(_changed(tx, boots) or self._unwanted(tx))):
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
            restarted = boot.member_uid in known and tx.keks.writer(boot.array_id) is not None
            if restarted and self._wanted(tx, boot.array_id):
                tx.boots.request(boot.array_id, self.now())
        for array_id in self._unwanted(tx):
            tx.boots.withdraw(array_id)

    def _wanted(self, tx: Any, array_id: str) -> bool:  # noqa: ANN401
        return read_settings(tx, array_id, defaults=self.defaults).effective.new_key_on_restart

    def _unwanted(self, tx: Any) -> list[str]:  # noqa: ANN401
        """The arrays of which a new key is asked for, and whose setting has been turned off since."""
        return [array_id for array_id in tx.boots.requests() if not self._wanted(tx, array_id)]

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
