"""The ports to a service's database: transactions that commit whole or not at all, and waiting for changes."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

T = TypeVar("T")
TxT_co = TypeVar("TxT_co", covariant=True)

Wait = Callable[[float], Awaitable[bool]]
"""Returns when something may have changed since it last returned, and after so many seconds at the latest.

It tells whether to read: False says that the seconds have passed and nothing is known to have changed.
Each follower has one of its own (`keyreeve_chassis.changes.topics.Topics.follower`).
"""


def polling(interval: float) -> Wait:
    """A `WaitForChange` without notifications: wait at most `interval` seconds."""

    async def wait(seconds: float) -> bool:
        await asyncio.sleep(min(interval, seconds))
        return True

    return wait


class Store(Protocol[TxT_co]):
    """Runs transactions: `write` serializably on the writer, `read` on a read-only snapshot.

    A read that declares `one_statement` costs less. Both raise `StoreUnavailable`.
    """

    async def read(self, work: Callable[[TxT_co], T], *, one_statement: bool = False) -> T: ...
    async def write(self, work: Callable[[TxT_co], T]) -> T: ...
