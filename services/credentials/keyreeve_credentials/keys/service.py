"""Keys: rotate, destroy, seal and unseal."""

import asyncio
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from keyreeve import errors
from keyreeve_chassis.audit.recording import system_event
from keyreeve_chassis.database.ports import Store
from keyreeve_chassis.operations.ports import Operation, OperationState
from keyreeve_credentials.keys.ports import MOST_WRAPS, Kek, KekState, KeyTransaction, RootProvider, SealState

ROTATE = "/keyreeve.credentials.v1.KeyService/RotateKey"
APPROVAL_SECONDS = 3_600
"""How long the first person's request for destruction counts."""
MOST_REASON = 200


@dataclass(frozen=True, slots=True)
class Actor:
    """Who acts."""

    identity: str
    person: str
    """Unique id of the person."""


@dataclass(frozen=True, slots=True)
class KeyUse:
    """A key and the number of values under it."""

    kek: Kek
    values: int


@dataclass(frozen=True)
class Keys:
    """The use cases."""

    root: RootProvider
    store: Store[Any]
    now: Callable[[], int]
    new_id: Callable[[], str] = lambda: secrets.token_hex(16)

    def state(self, tx: Any, array_id: str) -> tuple[Sequence[KeyUse], SealState, Operation | None]:  # noqa: ANN401
        """The keys of an array, the newest first; the seal; and the operation that re-encrypts."""
        keys = [KeyUse(kek, values_under(tx, kek.kek_id)) for kek in reversed(tx.keks.of_array(array_id))]
        return keys, tx.keks.seal_state() or SealState(sealed=True), running_rotation(tx, array_id)

    def begin_rotation(self, tx: Any, array_id: str, kek_id: str, by: str) -> Operation:  # noqa: ANN401
        """Make a created key the writer, and begin the sweep; a sweep of this array that runs is returned instead."""
        running = running_rotation(tx, array_id)
        if running is not None:
            return running
        known, now = tx.keks.of_array(array_id), self.now()
        for kek in known:
            if kek.state is KekState.WRITER:
                tx.keks.update(replace(kek, state=KekState.DRAINING, changed_at=now))
        number = max((kek.number for kek in known), default=0) + 1
        tx.keks.add(Kek(kek_id, array_id, number, KekState.WRITER, 0, now, now))
        total = sum(values_under(tx, kek.kek_id) for kek in known if kek.state is not KekState.DESTROYED)
        operation = replace(
            Operation.begin(ROTATE, by, "re-encrypting", {"array": f"arrays/{array_id}"}, now), total=total
        )
        tx.operations.add(operation)
        return operation

    async def rotate(self, array_id: str, by: str) -> Operation:
        """Create a key and begin the sweep; a sweep of this array that runs is returned instead."""
        kek_id = self.new_id()
        await asyncio.to_thread(self.root.create, array_id, kek_id)
        operation = await self.store.write(lambda tx: self.begin_rotation(tx, array_id, kek_id, by))
        await self.drop_unused(kek_id)
        return operation

    async def drop_unused(self, kek_id: str) -> None:
        """Destroy a created key that `begin_rotation` has not used, since another rotation was faster."""
        if await self.store.read(lambda tx: tx.keks.get(kek_id)) is None:
            await asyncio.to_thread(self.root.destroy, kek_id)

    async def replace_worn(self, by: str) -> list[str]:
        """Rotate the keys that have wrapped half as many data keys as a key may; the arrays."""

        def worn(tx: Any) -> list[str]:  # noqa: ANN401
            return [
                kek.array_id
                for kek in tx.keks.all()
                if kek.state is KekState.WRITER
                and kek.wraps >= MOST_WRAPS // 2
                and running_rotation(tx, kek.array_id) is None
            ]

        arrays = await self.store.read(worn)
        for array_id in arrays:
            await self.rotate(array_id, by)
        return arrays

    def ask_destruction(self, tx: KeyTransaction, array_id: str, kek_id: str, actor: Actor, *, at_once: bool) -> Kek:
        """Begin the destruction of a key that nothing needs; at once only when two people ask for it.

        Raises `KeyNotFound`, `KeyInUse`, `SecondPersonRequired`.
        """
        kek, now = self._find(tx, array_id, kek_id), self.now()
        if kek.state in {KekState.DESTROYING, KekState.DESTROYED}:
            return kek
        refuse_when_needed(tx, kek)
        if not at_once:
            if kek.destroy_at is None or kek.destroy_at > now:
                raise errors.KeyInUse(
                    f"backups of the database may need {kek.name}", metadata={"destroy_time": str(kek.destroy_at or 0)}
                )
        elif kek.asked_at is None or now - kek.asked_at > APPROVAL_SECONDS:
            asked = replace(kek, asked_at=now, asked_by=actor.identity, asked_person=actor.person)
            tx.keks.update(asked)
            return asked
        elif kek.asked_person == actor.person:
            raise errors.SecondPersonRequired(
                f"{kek.asked_by} has asked already; another person has to agree", metadata={"approver": kek.asked_by}
            )
        doomed = replace(kek, state=KekState.DESTROYING, changed_at=now)
        tx.keks.update(doomed)
        return doomed

    async def finish_destruction(self, kek_id: str) -> Kek:
        """Destroy a key outside SQL, have that confirmed, and record it. Raises `VaultKeyUnavailable`."""
        await asyncio.to_thread(self.root.destroy, kek_id)
        if not await asyncio.to_thread(self.root.confirm, kek_id):
            raise errors.VaultKeyUnavailable(f"the root provider does not confirm that {kek_id} is destroyed")

        def record(tx: Any) -> Kek:  # noqa: ANN401
            kek: Kek = tx.keks.get(kek_id)
            if kek.state is KekState.DESTROYED:
                return kek
            gone = replace(kek, state=KekState.DESTROYED, changed_at=self.now())
            tx.keks.update(gone)
            tx.audit.append(system_event("vault.key-destroyed", self.now(), (("name", gone.name),)))
            return gone

        return await self.store.write(record)

    async def destroy_due(self) -> list[Kek]:
        """Destroy the keys whose time has come, and go on where a destruction was interrupted."""

        def doom(tx: Any) -> list[Kek]:  # noqa: ANN401
            now, found = self.now(), []
            for kek in tx.keks.all():
                due = kek.state is KekState.DRAINING and kek.destroy_at is not None and kek.destroy_at <= now
                if due and values_under(tx, kek.kek_id) == 0:
                    kek = replace(kek, state=KekState.DESTROYING, changed_at=now)  # noqa: PLW2901
                    tx.keks.update(kek)
                if kek.state is KekState.DESTROYING:
                    found.append(kek)
            return found

        def look(tx: KeyTransaction) -> bool:
            now = self.now()
            return any(
                kek.state is KekState.DESTROYING
                or (kek.state is KekState.DRAINING and kek.destroy_at is not None and kek.destroy_at <= now)
                for kek in tx.keks.all()
            )

        if not await self.store.read(look):
            return []
        return [await self.finish_destruction(kek.kek_id) for kek in await self.store.write(doom)]

    def seal(self, tx: KeyTransaction, by: str, reason: str, *, sealed: bool) -> SealState:
        """Seal or unseal the vault. Raises `FieldInvalid`."""
        if not 0 < len(reason) <= MOST_REASON or not reason.isprintable():
            why = f"1 to {MOST_REASON} printable characters are required"
            raise errors.FieldInvalid(f"reason: {why}", violations=[errors.Violation("reason", why)])
        state = SealState(sealed, self.now(), by, reason)
        tx.keks.put_seal_state(state)
        return state

    def _find(self, tx: KeyTransaction, array_id: str, kek_id: str) -> Kek:
        kek = tx.keks.get(kek_id)
        if kek is None or kek.array_id != array_id:
            raise errors.KeyNotFound(f"there is no key arrays/{array_id}/keys/{kek_id}")
        return kek


def values_under(tx: KeyTransaction, kek_id: str) -> int:
    """The number of values of all features under a key."""
    return sum(values.count_under(kek_id) for values in tx.sealed_values.values())


def refuse_when_needed(tx: KeyTransaction, kek: Kek) -> None:
    """Raise `KeyInUse` when a key writes, or a value is under it; in a write transaction this holds until its end."""
    if kek.state is KekState.WRITER:
        raise errors.KeyInUse(f"{kek.name} is the key that writes")
    values = values_under(tx, kek.kek_id)
    if values:
        raise errors.KeyInUse(f"{values} values are encrypted under {kek.name}", metadata={"values": str(values)})


def running_rotation(tx: Any, array_id: str) -> Operation | None:  # noqa: ANN401 - the service's transaction
    """The operation that re-encrypts the values of an array."""
    for operation in tx.operations.running():
        if (
            operation.method == ROTATE
            and operation.state is OperationState.RUNNING
            and operation.arguments["array"] == f"arrays/{array_id}"
        ):
            found: Operation = operation
            return found
    return None
