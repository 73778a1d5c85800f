"""The seal switch in memory: asked before anything opens or is encrypted."""

from collections.abc import Callable
from typing import Any

from keyreeve.errors import KeyreeveError, TrustTableAltered, VaultSealed
from keyreeve_chassis.database.ports import Store
from keyreeve_credentials.keys.keyring import Keyring
from keyreeve_credentials.keys.ports import KeyTransaction, SealState


class SealSwitch:
    """What this process knows of the seal. Before it has been read, and when its row was altered, nothing opens."""

    def __init__(self, store: Store[Any], keyring: Keyring, refuse: Callable[[], None]) -> None:
        """`refuse` raises `TrustTableAltered` while tables that decide about keys are altered."""
        self._store = store
        self._keyring = keyring
        self._refuse = refuse
        self._refusal: KeyreeveError | None = VaultSealed("the seal switch has not been read yet")

    @property
    def closed(self) -> bool:
        """Whether nothing opens: sealed, not read yet, or its tables altered."""
        try:
            self.check()
        except KeyreeveError:
            return True
        return False

    def check(self) -> None:
        """Raise `VaultSealed` or `TrustTableAltered` when nothing may be opened."""
        if self._refusal is not None:
            raise self._refusal
        self._refuse()

    async def refresh(self) -> None:
        """Read the switch; a sealed vault keeps no key in memory."""
        try:
            self.know(await self._store.read(_read, one_statement=True))
        except TrustTableAltered as altered:
            self._refusal = altered
            self._keyring.forget()

    def know(self, state: SealState | None) -> None:
        """Take in a state."""
        self._refusal = None
        if state is None or state.sealed:
            why = f": {state.reason}" if state is not None and state.reason else ""
            self._refusal = VaultSealed(f"the vault is sealed{why}")
            self._keyring.forget()


def _read(tx: KeyTransaction) -> SealState | None:
    return tx.keks.seal_state()
