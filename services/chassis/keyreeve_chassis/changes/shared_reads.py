"""Reads that the streams of one process share: one for each change, however many streams follow it."""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from keyreeve_chassis.changes.topics import Topics
from keyreeve_chassis.database.ports import Store, Wait

T = TypeVar("T")
TxT = TypeVar("TxT")

_MOST_KEPT = 16
"""Results that a process keeps. Streams that follow closely share a few; those that begin read a page each."""


@dataclass(frozen=True, slots=True)
class _Read:
    version: tuple[int, ...]
    """Of the topics when it began."""
    began: float
    result: asyncio.Task[Any]


class SharedReads(Generic[TxT]):
    """Waits and reads for the streams that follow some topics."""

    def __init__(self, store: Store[TxT], topics: Topics, *followed: str) -> None:
        self._store = store
        self._topics = topics
        self._followed = followed
        self._reads: OrderedDict[Hashable, _Read] = OrderedDict()

    def follower(self) -> Wait:
        """Return what one stream waits for changes with."""
        return self._topics.follower(*self._followed)

    async def read(self, key: Hashable, work: Callable[[TxT], T]) -> T:
        """Read what `key` names, or return what another stream has read since the last change.

        Half of the longest wait is the most that a result is old while no change is heard of, so a change that nobody
        announced is seen at most half a wait later than by a read of one's own.
        """
        version, now = self._topics.version(self._followed), self._topics.clock()
        found = self._reads.get(key)
        if found is None or found.version != version or now - found.began > self._topics.longest_wait / 2:
            found = _Read(version, now, asyncio.ensure_future(_run(self._store.read(work))))
            found.result.add_done_callback(lambda ended: self._forget_failed(key, ended))
            self._reads[key] = found
        self._reads.move_to_end(key)
        while len(self._reads) > _MOST_KEPT:
            self._reads.popitem(last=False)
        result: T = await asyncio.shield(found.result)  # a stream that ends takes no other's read with it
        return result

    def _forget_failed(self, key: Hashable, ended: asyncio.Task[Any]) -> None:
        kept = self._reads.get(key)
        if (ended.cancelled() or ended.exception() is not None) and kept is not None and kept.result is ended:
            del self._reads[key]


async def _run(reading: Awaitable[T]) -> T:
    return await reading
