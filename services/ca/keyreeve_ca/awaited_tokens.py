"""Noticing a newcomer's first authenticated call, which closes its token, at the price of looking into a small set."""

import asyncio
import logging
from collections import OrderedDict

from keyreeve.errors import KeyreeveError, StoreUnavailable
from keyreeve.identity import Caller
from keyreeve_ca.enrolment import TokenSteps
from keyreeve_ca.registry import Store
from keyreeve_chassis.peers import PeerVerifier

MOST_REMEMBERED = 4096

log = logging.getLogger(__name__)


class AwaitedTokens:
    """Which certificates' tokens are bound and not closed: almost always none, a few seconds after an enrolment one.

    This process hears of an enrolment a moment late, and perhaps after the newcomer's only call; so it remembers the
    certificates that it has seen lately, too.
    """

    def __init__(self, store: Store, steps: TokenSteps) -> None:
        self._store = store
        self._steps = steps
        self._serials: set[int] = set()
        self._seen: OrderedDict[int, None] = OrderedDict()
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
        """Read which tokens are bound now, and close those whose certificates have been seen."""
        awaited = await self._store.read(lambda tx: tx.tokens.awaited(), one_statement=True)
        self._serials = {int.from_bytes(serial) for serial in awaited}
        for serial in self._serials & self._seen.keys():
            self._begin_to_close(serial)

    def seen(self, caller: Caller) -> None:
        """Somebody has called; close the token if this was the first time."""
        serial = caller.serial
        if serial in self._serials:
            self._begin_to_close(serial)
        elif serial not in self._seen:
            self._seen[serial] = None
            if len(self._seen) > MOST_REMEMBERED:
                self._seen.popitem(last=False)

    def _begin_to_close(self, serial: int) -> None:
        self._serials.discard(serial)
        task = asyncio.get_running_loop().create_task(self._close(serial.to_bytes(16)))
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
