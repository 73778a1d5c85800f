"""Reads that keep the database busy for long: one at a time, so that they never have the last thread that reads.

One of them runs at a time in each servicer and process; few wait, and one caller has at most three quarters of those places.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta

from keyreeve_chassis.guard.admission import FairShare
from keyreeve_chassis.guard.call import Call, caller_of

MOST_WAITING = 16
RETRY_AFTER = timedelta(seconds=1)


@dataclass(frozen=True)
class CostlyReads:
    """The costly reads of one servicer in one process."""

    share: FairShare = field(default_factory=lambda: FairShare("costly reads", MOST_WAITING, RETRY_AFTER))
    turns: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(1))

    @asynccontextmanager
    async def turn(self, call: Call) -> AsyncIterator[None]:
        """Wait for a turn, and have it while the context lasts. Raises `TooManyInFlight`."""
        caller = str(caller_of(call))
        self.share.enter(caller)
        try:
            async with self.turns:
                yield
        finally:
            self.share.leave(caller)
