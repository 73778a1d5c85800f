"""Reads that wait together run in one transaction.

The way to a thread and back, and the beginning and end of a transaction cost about as much as three indexed queries. A read
that comes alone runs at once; those that come while others run share the next transaction, which begins after all of them.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from keyreeve.errors import KeyreeveError
from keyreeve_chassis.database.ports import Store

T = TypeVar("T")
TxT = TypeVar("TxT")

MOST_TOGETHER = 16
"""Reads in one transaction."""
MOST_AT_ONCE = 2
"""Transactions at once."""

_Work = Callable[[Any], Any]
_Outcome = tuple[Any, KeyreeveError | None]


class GroupedReads(Generic[TxT]):
    """A `Store` for short reads of many callers. An error of the database fails all reads of the transaction."""

    def __init__(self, store: Store[TxT]) -> None:
        self._store = store
        self._waiting: deque[tuple[_Work, asyncio.Future[Any]]] = deque()
        self._running: set[asyncio.Task[None]] = set()

    async def read(self, work: Callable[[TxT], T], *, one_statement: bool = False) -> T:
        """Run `work` on a read-only snapshot; see `Store.read`."""
        if one_statement:
            return await self._store.read(work, one_statement=True)
        done: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._waiting.append((work, done))
        if len(self._running) < MOST_AT_ONCE:
            task = asyncio.create_task(self._run())
            self._running.add(task)
            task.add_done_callback(self._running.discard)
        return await done

    async def write(self, work: Callable[[TxT], T]) -> T:
        """See `Store.write`."""
        return await self._store.write(work)

    async def _run(self) -> None:
        while self._waiting:
            taken = [self._waiting.popleft() for _ in range(min(len(self._waiting), MOST_TOGETHER))]
            group = [(work, done) for work, done in taken if not done.done()]
            if not group:
                continue
            try:
                outcomes = await self._store.read(lambda tx, group=group: [_attempt(work, tx) for work, _ in group])  # type: ignore[misc]
            except Exception as failure:  # noqa: BLE001 - each caller is told
                for _, done in group:
                    if not done.done():
                        done.set_exception(failure)
                continue
            for (_, done), (result, refusal) in zip(group, outcomes, strict=True):
                if done.done():
                    continue
                if refusal is None:
                    done.set_result(result)
                else:
                    done.set_exception(refusal)


def _attempt(work: _Work, tx: Any) -> _Outcome:  # noqa: ANN401 - the service's transaction
    """The result of one read, or its refusal, which concerns no other."""
    try:
        return work(tx), None
    except KeyreeveError as refusal:
        return None, refusal
