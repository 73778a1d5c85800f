"""Noticing a newcomer's first authenticated call, which closes its token, at the price of looking into a small set."""

import asyncio
import logging

from keyreeve.errors import KeyreeveError, StoreUnavailable
from keyreeve.identity import Caller
from keyreeve_ca.enrolment import TokenSteps
from keyreeve_ca.registry import Store
from keyreeve_chassis.peers import PeerVerifier

log = logging.getLogger(__name__)


class AwaitedTokens:
    """Which certificates' tokens are bound and not closed: almost always none, a few seconds after an enrolment one.

    A call that comes before this process has heard of the enrolment does not close the token; the next one does, or time.
    """

    def __init__(self, store: Store, steps: TokenSteps) -> None:
        self._store = store
        self._steps = steps
        self._serials: set[int] = set()
        self._closing: set[asyncio.Task[None]] = set()

    async def follow(self, seconds: float) -> None:
        """Look for newly bound tokens again and again, for ever."""
        while True:
            await asyncio.sleep(seconds)
            try:
                await self.refresh()
            except StoreUnavailable as unavailable:
                log.warning("bound enrolment tokens could not be read: %s", unavailable)

    async def refresh(self) -> None:
        """Read which tokens are bound now."""
        awaited = await self._store.read(lambda tx: tx.tokens.awaited())
        self._serials = {int.from_bytes(serial) for serial in awaited}

    def seen(self, caller: Caller) -> None:
        """Somebody has called; close the token if this was the first time."""
        if caller.serial not in self._serials:
            return
        self._serials.discard(caller.serial)
        task = asyncio.get_running_loop().create_task(self._close(caller.serial.to_bytes(16)))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def _close(self, serial: bytes) -> None:
        try:
            await self._steps.close(serial)
        except KeyreeveError as failure:
            log.warning("the enrolment token of certificate %s stays bound for now: %s", serial.hex(), failure)


class NoticingVerifier(PeerVerifier):
    """A `PeerVerifier` that tells who has called."""

    awaited: AwaitedTokens | None = None

    def verify(self, pem: bytes | None) -> Caller:
        """See `PeerVerifier.verify`."""
        caller = super().verify(pem)
        if self.awaited is not None:
            self.awaited.seen(caller)
        return caller
