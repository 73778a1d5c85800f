"""Reads of many streams: one for each change, old for half a wait at most, and failures and ends stay each stream's own."""

import asyncio
import math
from collections.abc import Awaitable, Callable
from typing import TypeVar

from keyreeve.errors import StoreUnavailable
from keyreeve_chassis.changes.shared_reads import SharedReads
from keyreeve_chassis.changes.topics import SAFETY_SECONDS, Topics
from support.virtual_time import run_virtually

T = TypeVar("T")


class Values:
    """A store of one number, whose reads take a moment and are counted."""

    def __init__(self) -> None:
        self.value = self.reads = 0
        self.fails = False

    async def read(self, work: Callable[[int], T], *, one_statement: bool = False) -> T:
        self.reads += 1
        value = self.value
        await asyncio.sleep(0.01)
        if self.fails:
            raise StoreUnavailable("away")
        return work(value)

    async def write(self, work: Callable[[int], T]) -> T:
        raise NotImplementedError


Shared = tuple[Values, Topics, SharedReads[int]]


def shared() -> Shared:
    values, topics = Values(), Topics(notified=True, clock=asyncio.get_running_loop().time)
    return values, topics, SharedReads(values, topics, "numbers")


def read(reads: SharedReads[int]) -> Awaitable[int]:
    return reads.read("the number", lambda value: value)


def test_a_hundred_streams_cost_one_read_for_each_change_and_all_see_it() -> None:
    async def main() -> None:
        values, topics, reads = shared()
        seen: list[list[int]] = [[] for _ in range(100)]

        async def stream(into: list[int]) -> None:
            wait = reads.follower()
            while True:
                into.append(await read(reads))
                await wait(math.inf)

        streams = [asyncio.create_task(stream(one)) for one in seen]
        await asyncio.sleep(1)
        for value in (1, 2, 3):
            values.value = value
            topics.bump(["numbers"])
            await asyncio.sleep(1)
        for one in streams:
            one.cancel()
        assert {tuple(dict.fromkeys(one)) for one in seen} == {(0, 1, 2, 3)}
        assert values.reads <= 5, "one at the start, one when the streams first wait, one for each change"

    run_virtually(main())


def test_without_a_change_a_minute_of_a_hundred_streams_costs_a_read_every_few_seconds() -> None:
    async def main() -> None:
        values, _, reads = shared()

        async def stream(number: int) -> None:
            await asyncio.sleep(SAFETY_SECONDS * number / 100)  # they begin at different times
            wait = reads.follower()
            while True:
                await read(reads)
                await wait(math.inf)

        streams = [asyncio.create_task(stream(number)) for number in range(100)]
        await asyncio.sleep(60)
        for one in streams:
            one.cancel()
        assert values.reads <= 60 / (SAFETY_SECONDS / 2) + 2

    run_virtually(main())


def test_what_changed_while_a_read_ran_is_read_again() -> None:
    async def main() -> None:
        values, topics, reads = shared()
        early = asyncio.ensure_future(read(reads))
        await asyncio.sleep(0.005)
        values.value = 1
        topics.bump(["numbers"])
        assert await read(reads) == 1
        assert await early == 0

    run_virtually(main())


def test_a_stream_that_ends_takes_no_other_stream_s_read_with_it() -> None:
    async def main() -> None:
        values, _, reads = shared()
        first, second = asyncio.ensure_future(read(reads)), asyncio.ensure_future(read(reads))
        await asyncio.sleep(0.005)
        first.cancel()
        assert await second == 0
        assert values.reads == 1

    run_virtually(main())


def test_a_failed_read_is_told_to_all_and_not_kept() -> None:
    async def main() -> None:
        values, _, reads = shared()
        values.fails = True
        told = await asyncio.gather(read(reads), read(reads), return_exceptions=True)
        assert [type(one) for one in told] == [StoreUnavailable, StoreUnavailable]
        assert values.reads == 1
        values.fails = False
        assert await read(reads) == 0

    run_virtually(main())


def test_few_results_are_kept() -> None:
    async def main() -> None:
        values, _, reads = shared()
        for key in range(100):
            await reads.read(key, lambda value: value)
        await reads.read(99, lambda value: value)
        assert values.reads == 100
        await reads.read(0, lambda value: value)
        assert values.reads == 101

    run_virtually(main())


def test_a_change_of_another_topic_costs_no_read() -> None:
    async def main() -> None:
        values, topics, reads = shared()
        await read(reads)
        topics.bump(["letters"])
        await read(reads)
        assert values.reads == 1

    run_virtually(main())
