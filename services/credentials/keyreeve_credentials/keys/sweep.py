"""The sweep of a rotation: re-encrypt each value under the array's new key, some at a time.

A batch is read and encrypted before the transaction that stores it, which holds up other writes on SQLite.
"""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from keyreeve.errors import EntryDamaged, TrustTableAltered, VaultKeyUnavailable, VaultSealed
from keyreeve_chassis.audit.recording import system_event
from keyreeve_chassis.database.ports import Store
from keyreeve_chassis.operations.ports import Operation, OperationState
from keyreeve_chassis.operations.steps import advance_operation, ended_operation
from keyreeve_chassis.processes import failpoints
from keyreeve_credentials.keys.envelope import DoesNotOpen
from keyreeve_credentials.keys.ports import Kek, KekState, KeyTransaction, StoredValue, StoredValues
from keyreeve_credentials.keys.service import values_under
from keyreeve_credentials.keys.vault import Vault

BATCH = 25
"""Values in one transaction: it takes 1.8 ms of CPU beside the commit, with 10 values as much, with 100 4 ms."""
_SEALED_SECONDS = 1.0

REENCRYPTED = failpoints.register(
    "credentials.sweep.reencrypted", "Some values are re-encrypted in a transaction that is not complete."
)


@dataclass(frozen=True, slots=True)
class _Batch:
    """Values of one feature, encrypted again and not yet stored."""

    feature: str
    writer: Kek
    again: Sequence[StoredValue]
    looked_at: int
    """With those that did not open."""
    position: bytes
    """After them."""


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
            batch = await store.read(lambda tx: self._encrypt(tx, before))
            if batch is None:
                left = await store.write(lambda tx: self._end(tx, _array(before), before))
            else:
                left, moving = 0, batch
                await store.write(lambda tx: self._store(tx, before, moving))
        except (VaultSealed, TrustTableAltered):
            return _SEALED_SECONDS
        if left:
            raise EntryDamaged(f"{left} values did not open and stay under their key; the alarms in the log name them")
        taken = self.clock() - began
        done = 0 if batch is None else batch.looked_at
        return max(taken, done / self.rows_per_second - taken)  # at least half of the time is for others

    def _encrypt(self, tx: KeyTransaction, before: Operation) -> _Batch | None:
        """Encrypt the next values under the present writer; None: there are none. Raises `VaultKeyUnavailable`."""
        keks = tx.keks.of_array(_array(before))
        old = [kek.kek_id for kek in keks if kek.state is KekState.DRAINING]
        feature, values, position = _next(tx, old, before.position)
        if not values:
            return None
        writer = next((kek for kek in keks if kek.state is KekState.WRITER), None)
        if writer is None:
            raise VaultKeyUnavailable(f"the array {_array(before)} has no key that writes")
        again = [moved for value in values if (moved := self._again(writer, value)) is not None]
        return _Batch(feature, writer, again, len(values), position)

    def _store(self, tx: Any, before: Operation, batch: _Batch) -> None:  # noqa: ANN401 - the service's transaction
        """Store those that have not been changed meanwhile, if the key still writes."""
        now = self.now()
        if self.vault.use_writer(tx, batch.writer.array_id, len(batch.again)).kek_id != batch.writer.kek_id:
            return
        after = replace(before, position=batch.position, done=before.done + batch.looked_at, updated_at=now)
        if not advance_operation(tx, before, after, now):
            return
        values: StoredValues = tx.sealed_values[batch.feature]
        stored = values.store_again(batch.again)
        failpoints.hit(REENCRYPTED)
        rows = tuple(
            (values.recorded_as, f"{value.name} {value.encryption} {sha256.hex()}") for value, sha256 in stored
        )
        tx.audit.append(system_event("vault.rekey", now, rows))

    def _again(self, writer: Kek, value: StoredValue) -> StoredValue | None:
        """A value encrypted again; None when it does not open and stays as it is."""
        place = self.vault.place(value.array_id, value.uid, value.owner, value.resource, value.encryption)
        try:
            opened = self.vault.open(place, value.sealed)
        except DoesNotOpen:
            self.alarm(value.name, "it does not open at its place")
            return None
        moved = replace(place, version=value.encryption + 1)
        return replace(value, encryption=moved.version, sealed=self.vault.seal_under(writer, moved, opened))

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


def _array(operation: Operation) -> str:
    array: str = operation.arguments["array"]
    return array.removeprefix("arrays/")


def _next(tx: KeyTransaction, old: Sequence[str], position: bytes) -> tuple[str, Sequence[StoredValue], bytes]:
    """The next values under old keys: their feature, the values, and the position after them."""
    reached: list[str] = json.loads(position) if position else []
    passed = not reached
    for kek_id, feature in ((kek_id, feature) for kek_id in old for feature in sorted(tx.sealed_values)):
        after = ""
        if not passed:
            if [kek_id, feature] != reached[:2]:
                continue
            passed, after = True, reached[2]
        found = tx.sealed_values[feature].page_under(kek_id, after, BATCH)
        if found:
            return feature, found, json.dumps([kek_id, feature, found[-1].uid]).encode()
    return "", [], b""
