"""The opened key-encryption keys of one process."""

import time
from collections.abc import Callable

from keyreeve.errors import VaultKeyUnavailable
from keyreeve_credentials.keys.ports import OpenKek, RootProvider

LOOK_SECONDS = 1.0
"""How long an opened key is used without asking the root provider whether it has been destroyed."""


class Keyring:
    """Keeps keys open, each until the root provider has destroyed it. Methods may be called from any thread."""

    def __init__(self, root: RootProvider, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._root = root
        self._clock = clock
        self._opened: dict[tuple[str, str], tuple[OpenKek, float]] = {}

    def get(self, array_id: str, kek_id: str) -> OpenKek:
        """Return a key of an array. Raises `VaultKeyUnavailable`."""
        now = self._clock()
        known = self._opened.get((array_id, kek_id))
        if known is not None:
            kek, looked_at = known
            if now - looked_at < LOOK_SECONDS:
                return kek
            if self._root.confirm(kek_id):
                self._opened.pop((array_id, kek_id), None)
                raise VaultKeyUnavailable(f"the key {kek_id} has been destroyed", metadata={"key": kek_id})
        else:
            kek = self._root.open(array_id, kek_id)
        self._opened[array_id, kek_id] = (kek, now)
        return kek

    def forget(self) -> None:
        """Drop all keys from memory."""
        self._opened.clear()
