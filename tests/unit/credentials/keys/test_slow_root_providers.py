"""A root provider that answers late holds up the calls that need its key, and no others."""

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from keyreeve.errors import StoreUnavailable, VaultKeyUnavailable
from keyreeve.plaintext import Plaintext
from keyreeve_credentials.keys.keyring import Keyring
from keyreeve_credentials.keys.ports import Kek, KekState
from keyreeve_credentials.keys.vault import Vault

SECONDS = 5.0


@dataclass
class LateRoot:
    """Opens a key once it is let go; counts how often it is asked."""

    go: threading.Event = field(default_factory=threading.Event)
    asked: int = 0

    def open(self, _array: str, _kek: str) -> AESGCM:
        self.asked += 1
        assert self.go.wait(SECONDS), "the event loop was blocked"
        return AESGCM(bytes(32))

    def confirm(self, _kek: str) -> bool:
        self.open("", "")
        return False


async def test_the_event_loop_goes_on_while_the_root_provider_is_asked_once_for_all_calls() -> None:
    root, now = LateRoot(), 0.0
    root_: Any = root
    keyring = Keyring(root_, clock=lambda: now)
    switch: Any = SimpleNamespace(check=lambda: None)
    store: Any = None
    vault = Vault(store, root_, keyring, "example.test", lambda: 0, switch)
    for asked in (1, 2):  # a key that is opened first, and one that was last looked at long ago
        root.go.clear()
        calls = [asyncio.ensure_future(vault.make_ready("sales", "1" * 32)) for _ in range(3)]
        await asyncio.sleep(0)
        assert not any(call.done() for call in calls)
        root.go.set()  # runs on the event loop
        async with asyncio.timeout(SECONDS):
            await asyncio.gather(*calls)
        assert keyring.is_ready("sales", "1" * 32)
        await vault.make_ready("sales", "1" * 32)
        assert root.asked == asked
        now += 10.0


@dataclass
class Records:
    """A store whose array has one key that writes, and that says whether it is in a transaction."""

    writer: str
    in_transaction: bool = False

    async def read(self, work: Callable[[Any], Any]) -> Any:
        return self.write(work)

    def write(self, work: Callable[[Any], Any]) -> Any:
        kek = Kek(self.writer, "sales", 1, KekState.WRITER, 1, 0, 0)
        keks = SimpleNamespace(writer=lambda _: kek, of_array=lambda _: [kek], use_writer=lambda *_: kek)
        self.in_transaction = True
        try:
            return work(SimpleNamespace(keks=keks))
        finally:
            self.in_transaction = False


@dataclass
class RootOutsideOfTransactions:
    """Refuses to be asked in a transaction."""

    records: Records
    gone: set[str] = field(default_factory=set)
    failing: bool = False

    def open(self, _array: str, kek_id: str) -> AESGCM:
        self._answer()
        if kek_id in self.gone:
            raise VaultKeyUnavailable("the key has been destroyed")
        return AESGCM(bytes(32))

    def confirm(self, kek_id: str) -> bool:
        self._answer()
        return kek_id in self.gone

    def _answer(self) -> None:
        assert not self.records.in_transaction
        if self.failing:
            raise StoreUnavailable("the API server does not answer")


async def test_a_transaction_that_seals_does_not_wait_for_the_root_provider() -> None:
    now, records = 0.0, Records("1" * 32)
    root = RootOutsideOfTransactions(records)
    as_root: Any = root
    store: Any = records
    switch: Any = SimpleNamespace(check=lambda: None)
    vault = Vault(store, as_root, Keyring(as_root, clock=lambda: now), "example.test", lambda: 0, switch)
    place = vault.place("sales", "2" * 32, "bill", "prague", 1)

    async def seal() -> str:
        await vault.prepare("sales")
        sealed: str = records.write(lambda tx: vault.seal(tx, place, {"password": Plaintext(b"secret")})).kek_id
        return sealed

    assert await seal() == "1" * 32
    now += 10.0  # the provider has to be asked again
    assert await seal() == "1" * 32
    now += 10.0
    records.writer = "3" * 32
    root.gone.add("1" * 32)
    assert await seal() == "3" * 32  # another replica has replaced the key
    now += 10.0
    root.failing = True
    with pytest.raises(StoreUnavailable):
        await seal()
