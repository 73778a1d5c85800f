"""Close a token at its enrollee's first authenticated call.

The peer verifier reports a certificate when it first accepts it, so later calls cost nothing.
"""

import asyncio
import logging
from collections import OrderedDict

from keyreeve.errors import KeyreeveError
from keyreeve.identity import Caller
from keyreeve_ca.enrollment.service import TokenSteps
from keyreeve_ca.store.ports import Store
from keyreeve_chassis.changes.following import follow_changes
from keyreeve_chassis.database.ports import Wait

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

    def first_seen(self, caller: Caller) -> None:
        """Remember a certificate; close its token if that is bound."""
        serial = caller.serial
        self._seen[serial] = None
        if len(self._seen) > MOST_REMEMBERED:
            self._seen.popitem(last=False)
        if serial in self._serials:
            self._begin_to_close(serial)

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
