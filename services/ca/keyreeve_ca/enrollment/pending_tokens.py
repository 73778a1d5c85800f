"""Close a token at its enrollee's first authenticated call.

Each call costs one lookup in a small set.
"""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable

from keyreeve.errors import KeyreeveError
from keyreeve.identity import Caller
from keyreeve_ca.enrollment.service import TokenSteps
from keyreeve_ca.store.ports import Store
from keyreeve_chassis.changes.following import follow_changes
from keyreeve_chassis.database.ports import Wait
from keyreeve_chassis.guard.peers import PeerVerifier, Revocations, TrustView

MOST_REMEMBERED = 4096

log = logging.getLogger(__name__)


class PendingTokens:
    """Certificates whose tokens are bound but not closed: usually none.

    This process learns of an enrollment with a short delay, perhaps after the enrollee's only call, so it also
    remembers recently seen certificates.
    """

    def __init__(self, store: Store, steps: TokenSteps) -> None:
        self._store = store
        self._steps = steps
        self._serials: set[int] = set()
        self._seen: OrderedDict[int, None] = OrderedDict()
        self._closing: set[asyncio.Task[None]] = set()

    async def follow(self, wait: Wait) -> None:
        """Learn which tokens are newly bound, forever."""
        await follow_changes("bound enrollment tokens", wait, self.refresh)

    async def refresh(self) -> None:
        """Read which tokens are bound, and close those whose certificates have been seen."""
        pending = await self._store.read(lambda tx: tx.tokens.pending(), one_statement=True)
        self._serials = {int.from_bytes(serial) for serial in pending}
        for serial in self._serials & self._seen.keys():
            self._begin_to_close(serial)

    def seen(self, caller: Caller) -> None:
        """Record a call with this certificate; close its token if this was the first call."""
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
            log.warning("the enrollment token of certificate %s stays bound for now: %s", serial.hex(), failure)


class NoticingVerifier(PeerVerifier):
    """A `PeerVerifier` that reports each verified peer."""

    def __init__(
        self, trust: Callable[[], TrustView], now: Callable[[], int], revocations: Revocations, pending: PendingTokens
    ) -> None:
        super().__init__(trust, now, revocations)
        self._pending = pending

    def verify(self, pem: bytes | None) -> Caller:
        """See `PeerVerifier.verify`."""
        caller = super().verify(pem)
        self._pending.seen(caller)
        return caller
