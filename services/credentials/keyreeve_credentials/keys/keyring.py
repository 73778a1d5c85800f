"""The opened key-encryption keys of one process."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from keyreeve.errors import StoreUnavailable, VaultKeyUnavailable
from keyreeve_credentials.keys.ports import OpenKek, RootProvider

LOOK_SECONDS = 1.0
"""How long an opened key is used without asking the root provider whether it has been destroyed."""


@dataclass(slots=True)
class _Opened:
    """An opened key, and what the root provider said last."""

    kek: OpenKek
    looked_at: float
    used: bool = True
    """Since then."""
    failure: VaultKeyUnavailable | StoreUnavailable | None = None


class Keyring:
    """Keeps keys open, each until the root provider has destroyed it. Methods may be called from any thread."""

    def __init__(self, root: RootProvider, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._root = root
        self._clock = clock
        self._opened: dict[tuple[str, str], _Opened] = {}

    def get(self, array_id: str, kek_id: str) -> OpenKek:
        """Return a key of an array. Raises `VaultKeyUnavailable`, `StoreUnavailable`."""
        known = self._opened.get((array_id, kek_id))
        if known is None:
            known = self._opened[array_id, kek_id] = _Opened(self._root.open(array_id, kek_id), self._clock())
        elif self._clock() - known.looked_at >= LOOK_SECONDS:
            self._look(array_id, kek_id, known)
        known.used = True
        if known.failure is not None:
            raise known.failure
        return known.kek

    def is_ready(self, array_id: str, kek_id: str) -> bool:
        """Whether `get` answers from memory."""
        known = self._opened.get((array_id, kek_id))
        return known is not None and self._clock() - known.looked_at < LOOK_SECONDS

    def is_used(self) -> bool:
        """Whether a key was used since the root provider was asked about it last."""
        return any(known.used for known in list(self._opened.values()))

    def look_again(self) -> None:
        """Ask the root provider about the keys that were used since it was asked last, so that `get` need not wait for it."""
        for (array_id, kek_id), known in list(self._opened.items()):
            if known.used:
                self._look(array_id, kek_id, known)

    def forget(self) -> None:
        """Drop all keys from memory."""
        self._opened.clear()

    def _look(self, array_id: str, kek_id: str, known: _Opened) -> None:
        known.used = False
        try:
            destroyed, known.failure = self._root.confirm(kek_id), None
        except (VaultKeyUnavailable, StoreUnavailable) as failure:
            destroyed, known.failure = False, failure
        known.looked_at = self._clock()
        if destroyed:
            self._opened.pop((array_id, kek_id), None)
            known.failure = VaultKeyUnavailable(f"the key {kek_id} has been destroyed", metadata={"key": kek_id})
