"""Deletes expired data in small steps with pauses (docs/retention.md).

Stored answers and the outcomes of groups are kept for a day. Certificates are kept unless the operator sets a limit.
Each step is one transaction that leaves everything consistent, so a pass can be cut short at any point.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol, TypeVar

from keyreeve_ca.store.ports import Store
from keyreeve_chassis.audit.recording import system_event

REQUESTS_KEPT = 24 * 3600
"""Seconds for which a repeated `request_id` gets the same answer."""
PASS_SECONDS = 600
STEP = 250
"""Rows of one step: on SQLite the signing path waits for as long as these take, a few milliseconds."""
_SHARE = 3.0
"""Pause after a step, as a multiple of the time that it took: the rest belongs to the signing path."""
_DAY = 86_400

T = TypeVar("T")

log = logging.getLogger(__name__)


class Purging(Protocol):
    """The steps; each commits by itself. Raises `StoreUnavailable`."""

    async def purge(self, before: int, limit: int) -> int:
        """Delete up to `limit` stored answers and groups of each kind older than `before`; return how many."""
        ...

    async def expired_block(self, before: int, first: int) -> int | None:
        """The first block at or after `first` with a certificate that expired before then (seconds since 1970)."""
        ...

    async def purge_certificates(self, block_id: int, before: int, limit: int) -> int | None:
        """Delete up to `limit` of a block's expired certificates; return how many.

        Fewer than `limit`: the block has no more. None: another coordinator is working on it.
        """
        ...

    async def ended_sessions(self, before: int, limit: int) -> Sequence[str]:
        """Ids of up to `limit` sessions that ended before then, and whose proofs can open no other session."""
        ...

    async def purge_sessions(self, session_ids: Sequence[str]) -> int | None:
        """Delete sessions; return how many. None: another coordinator is working on it."""
        ...


@dataclass(frozen=True)
class Retention:
    """The background job of a coordinator."""

    ledger: Purging
    store: Store
    expired_days: int | None
    """Days after their expiry for which certificates are kept; None: forever."""
    session_days: int
    """Days after their end for which sessions are kept."""
    now: Callable[[], int]
    count: Callable[[int], None] = lambda _deleted: None
    pause: Callable[[float], Awaitable[None]] = asyncio.sleep

    async def run(self) -> None:
        """One pass."""
        while await self._step(self.ledger.purge(self.now() - REQUESTS_KEPT, STEP)):
            pass
        await self._purge_sessions(self.now() - self.session_days * _DAY)
        if self.expired_days is not None:
            # Whole days: what a day's passes remove is announced once.
            await self._purge_certificates((self.now() // _DAY - self.expired_days) * _DAY)

    async def _purge_sessions(self, before: int) -> None:
        total = 0
        while ended := await self.ledger.ended_sessions(before, STEP):
            deleted = await self._step(self.ledger.purge_sessions(ended))
            if not deleted:
                return
            total += deleted
        if total:
            log.info("deleted %d sessions of operators", total)

    async def _purge_certificates(self, before: int) -> None:
        block_id = await self.ledger.expired_block(before, 0)
        if block_id is None:
            return
        day = f"{datetime.fromtimestamp(before, UTC):%Y-%m-%d}"
        # Before the first deletion, so that no crash leaves one that was not announced.
        record = system_event("purge", self.now(), (("expired_before", day),))
        await self.store.write(lambda tx: tx.audit.append(record))
        total = 0
        while block_id is not None:
            deleted = await self._step(self.ledger.purge_certificates(block_id, before, STEP))
            if deleted is None:
                return
            self.count(deleted)
            total += deleted
            if deleted < STEP:
                block_id = await self.ledger.expired_block(before, block_id + 1)
        log.info("deleted %d certificates that had expired before %s", total, day)

    async def _step(self, step: Awaitable[T]) -> T:
        began = time.perf_counter()
        done = await step
        await self.pause((time.perf_counter() - began) * _SHARE)
        return done
