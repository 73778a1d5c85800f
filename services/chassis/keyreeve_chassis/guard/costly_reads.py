"""Reads that keep the database busy for long: one at a time, so that they never have the last thread that reads.

One of them runs at a time in each servicer and process; few wait, and one caller has at most three quarters of those places.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TypeVar

from keyreeve_chassis.guard.admission import FairShare
from keyreeve_chassis.guard.call import Call, caller_of

T = TypeVar("T")

MOST_WAITING = 16
RETRY_AFTER = timedelta(seconds=1)


@dataclass(frozen=True)
class CostlyReads:
    """The costly reads of one servicer in one process."""

    share: FairShare = field(default_factory=lambda: FairShare("costly reads", MOST_WAITING, RETRY_AFTER))
    running: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(1))

    async def read(self, call: Call, read: Callable[[], Awaitable[T]]) -> T:
        """Wait for a turn and read. Raises `TooManyInFlight`.

        A read that has begun has its turn until it ends, also when the call is cancelled or at its deadline: the database
        goes on with it.
        """
        caller = str(caller_of(call))
        self.share.enter(caller)
        try:
            await self.running.acquire()
        except BaseException:
            self.share.leave(caller)
            raise
        reading = asyncio.ensure_future(_run(read))

        def end(_: object) -> None:
            self.running.release()
            self.share.leave(caller)

        reading.add_done_callback(end)
        return await asyncio.shield(reading)


async def _run(read: Callable[[], Awaitable[T]]) -> T:
    return await read()
