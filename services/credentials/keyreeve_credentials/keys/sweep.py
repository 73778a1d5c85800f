"""The sweep of a rotation: re-encrypt each value under the array's new key, some at a time."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from keyreeve.errors import EntryDamaged, TrustTableAltered, VaultSealed
from keyreeve_chassis.audit.recording import system_event
from keyreeve_chassis.database.ports import Store
from keyreeve_chassis.operations.ports import Operation, OperationState
from keyreeve_chassis.operations.steps import advance_operation, ended_operation
from keyreeve_chassis.processes import failpoints
from keyreeve_credentials.keys.envelope import DoesNotOpen
from keyreeve_credentials.keys.ports import Kek, KekState, KeyTransaction, StoredValue
from keyreeve_credentials.keys.service import values_under
from keyreeve_credentials.keys.vault import Vault

BATCH = 25
"""Values in one transaction: on SQLite it holds up other writes for so long (about 5 ms)."""
_SEALED_SECONDS = 1.0

REENCRYPTED = failpoints.register(
    "credentials.sweep.reencrypted", "Some values are re-encrypted in a transaction that is not complete."
)


@dataclass(frozen=True)
class Sweep:
    """A step of the operation `RotateKey`."""

    vault: Vault
    now: Callable[[], int]
    alarm: Callable[[str, str], None]
    rows_per_second: float
    backup_seconds: int
    """How long backups of the database are kept."""
    clock: Callable[[], float] = time.monotonic

    async def step(self, store: Store[Any], before: Operation) -> float:
        """Re-encrypt a batch; return the seconds to rest, so that the sweep leaves the database to others.

        While the vault is sealed the sweep waits.

        Raises `EntryDamaged` at the end when values did not open: then their key is kept.
        """
        began = self.clock()
        try:
            self.vault.switch.check()
            done, left = await store.write(lambda tx: self._batch(tx, before))
        except (VaultSealed, TrustTableAltered):
            return _SEALED_SECONDS
        if left:
            raise EntryDamaged(f"{left} values did not open and stay under their key; the alarms in the log name them")
        taken = self.clock() - began
        return max(taken, done / self.rows_per_second - taken)  # at least half of the time is for others

    def _batch(self, tx: Any, before: Operation) -> tuple[int, int]:  # noqa: ANN401 - the service's transaction
        """The number of values that were looked at, and of those that are left at the end."""
        array_id, now = before.arguments["array"].removeprefix("arrays/"), self.now()
        values, position = self._next(tx, array_id, before.position)
        if not values:
            return 0, self._end(tx, array_id, before)
        writer = self.vault.use_writer(tx, array_id, len(values))
        rows = [text for value in values if (text := self._again(tx, writer, *value)) is not None]
        failpoints.hit(REENCRYPTED)
        after = replace(before, position=position, done=before.done + len(values), updated_at=now)
        if advance_operation(tx, before, after, now):
            tx.audit.append(system_event("vault.rekey", now, tuple(("row", row) for row in rows)))
        return len(values), 0

    def _next(self, tx: KeyTransaction, array_id: str, position: bytes) -> tuple[list[tuple[str, StoredValue]], bytes]:
        """The next values, each with its feature, and the position after them."""
        old = [kek.kek_id for kek in tx.keks.of_array(array_id) if kek.state is KekState.DRAINING]
        places = [(kek_id, feature) for kek_id in old for feature in sorted(tx.sealed_values)]
        reached: list[str] = json.loads(position) if position else []
        passed = not reached
        for kek_id, feature in places:
            after = ""
            if not passed:
                if [kek_id, feature] != reached[:2]:
                    continue
                passed, after = True, reached[2]
            found = tx.sealed_values[feature].page_under(kek_id, after, BATCH)
            if found:
                return [(feature, one) for one in found], json.dumps([kek_id, feature, found[-1].uid]).encode()
        return [], b""

    def _again(self, tx: KeyTransaction, writer: Kek, feature: str, value: StoredValue) -> str | None:
        """Re-encrypt one value; what the audit record says of it, or None when it stays as it is."""
        place = self.vault.place(value.array_id, value.uid, value.owner, value.resource, value.encryption)
        try:
            opened = self.vault.open(place, value.sealed)
        except DoesNotOpen:
            self.alarm(value.name, "it does not open at its place")
            return None
        moved = replace(place, version=value.encryption + 1)
        again = replace(value, encryption=moved.version, sealed=self.vault.seal_under(writer, moved, opened))
        row_sha256 = tx.sealed_values[feature].store_again(again, encryption=value.encryption)
        return None if row_sha256 is None else f"{value.name} {again.encryption} {row_sha256.hex()}"

    def _end(self, tx: Any, array_id: str, before: Operation) -> int:  # noqa: ANN401
        """Note the keys that no value needs; the number of values that are left."""
        now, left = self.now(), 0
        for kek in tx.keks.of_array(array_id):
            if kek.state is not KekState.DRAINING:
                continue
            values = values_under(tx, kek.kek_id)
            left += values
            if not values and kek.drained_at is None:
                tx.keks.update(replace(kek, drained_at=now, destroy_at=now + self.backup_seconds))
        if not left:
            advance_operation(tx, before, ended_operation(before, OperationState.SUCCEEDED, now), now)
        return left
