"""A root provider that answers late holds up the calls that need its key, and no others."""

import asyncio
import threading
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from keyreeve_credentials.keys.keyring import Keyring
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
