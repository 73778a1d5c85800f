"""`Vault`: encrypts and opens the values of all features, under the key-encryption keys of their arrays."""

import asyncio
import os
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from keyreeve.errors import VaultKeyUnavailable
from keyreeve.plaintext import Plaintext
from keyreeve_chassis.database.ports import Store
from keyreeve_credentials.keys.envelope import Place, Random, open_fields, seal_fields
from keyreeve_credentials.keys.keyring import Keyring
from keyreeve_credentials.keys.ports import MOST_WRAPS, Kek, KekState, KeyTransaction, OpenKek, RootProvider, Sealed
from keyreeve_credentials.keys.seal_switch import SealSwitch


@dataclass(frozen=True)
class Vault:
    """Seals values in the caller's transaction; opens them anywhere."""

    store: Store[Any]
    root: RootProvider
    keyring: Keyring
    trust_domain: str
    now: Callable[[], int]
    switch: SealSwitch
    random: Random = os.urandom
    _getting: dict[tuple[str, str], asyncio.Future[OpenKek]] = field(default_factory=dict)
    """Keys that threads ask the root provider for."""
    _prepared: dict[str, str] = field(default_factory=dict)
    """The last known key that writes, by array: a rotation replaces it in one transaction."""

    def place(self, array_id: str, uid: str, owner: str, resource: str, version: int) -> Place:
        """The place of a value; `version` counts its encryptions, so that no two have the same place."""
        return Place(self.trust_domain, array_id, uid, owner, resource, version)

    async def prepare(self, array_id: str) -> None:
        """Have the array's key that writes in memory, and make the first one; call it before a transaction that seals.

        The root provider may be slow, and a transaction holds a thread, and a lock that other writes wait for. Raises as
        `make_ready`.
        """
        known_writer = self._prepared.get(array_id, "")
        try:
            if known_writer:
                await self.make_ready(array_id, known_writer)
                return
        except VaultKeyUnavailable:  # it may have been replaced and destroyed meanwhile
            self._prepared.pop(array_id, None)
        self.switch.check()

        def find(tx: KeyTransaction) -> tuple[Kek | None, int]:
            return tx.keks.writer(array_id), len(tx.keks.of_array(array_id))

        writer, known = await self.store.read(find)
        if writer is not None:
            self._prepared[array_id] = writer.kek_id
            await self.make_ready(array_id, writer.kek_id)
            return
        kek_id, now = secrets.token_hex(16), self.now()
        await asyncio.to_thread(self.root.create, array_id, kek_id)
        made = Kek(kek_id, array_id, known + 1, KekState.WRITER, 0, now, now)
        if await self.store.write(lambda tx: tx.keks.add(made)):
            await self.make_ready(array_id, kek_id)
        else:  # another call was faster
            await asyncio.to_thread(self.root.destroy, kek_id)

    def seal(self, tx: KeyTransaction, place: Place, fields: Mapping[str, Plaintext]) -> Sealed:
        """Encrypt the fields of one write under the array's present key. Raises `VaultSealed`, `VaultKeyUnavailable`."""
        return self.seal_under(self.use_writer(tx, place.array_uid, 1), place, fields)

    def use_writer(self, tx: KeyTransaction, array_id: str, wraps: int) -> Kek:
        """Lock the array's present key for so many values. Raises `VaultSealed`, `VaultKeyUnavailable`."""
        self.switch.check()
        writer = tx.keks.use_writer(array_id, wraps)
        if writer is None or writer.wraps > MOST_WRAPS:
            why = "has no key that writes" if writer is None else "has a key that is used up"
            raise VaultKeyUnavailable(f"the array {array_id} {why}")
        return writer

    def seal_under(self, writer: Kek, place: Place, fields: Mapping[str, Plaintext]) -> Sealed:
        """Encrypt the fields of one write under a key that `use_writer` has returned in this transaction."""
        key = self.keyring.get(place.array_uid, writer.kek_id)
        self._prepared[place.array_uid] = writer.kek_id
        return seal_fields(key, writer.kek_id, place, fields, self.random)

    async def make_ready(self, array_id: str, kek_id: str) -> None:
        """Have `open` find a key in memory; a thread asks the root provider, which may be slow. Raises as `open`."""
        self.switch.check()
        if self.keyring.is_ready(array_id, kek_id):
            return
        key = (array_id, kek_id)
        getting = self._getting.get(key)
        if getting is None:
            getting = self._getting[key] = asyncio.ensure_future(asyncio.to_thread(self.keyring.get, array_id, kek_id))
            getting.add_done_callback(lambda _: self._getting.pop(key))
        await asyncio.shield(getting)

    def open(self, place: Place, sealed: Sealed) -> dict[str, Plaintext]:
        """Decrypt all fields. Raises `VaultSealed`, `VaultKeyUnavailable`, and `DoesNotOpen` for bytes of another place."""
        self.switch.check()
        return open_fields(self.keyring.get(place.array_uid, sealed.kek_id), place, sealed)
