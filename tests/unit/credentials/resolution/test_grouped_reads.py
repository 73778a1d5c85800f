"""Reads that wait together share a transaction."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from keyreeve.errors import ObjectNotFound, StoreUnavailable
from keyreeve_credentials.resolution.grouped_reads import MOST_AT_ONCE, MOST_TOGETHER, GroupedReads


class Gated:
    """A store whose transactions wait for `opened`."""

    def __init__(self) -> None:
        self.opened = asyncio.Event()
        self.transactions = 0
        self.failure: Exception | None = None

    async def read(self, work: Callable[[Any], Any], *, one_statement: bool = False) -> Any:
        self.transactions += 1
        number = self.transactions
        if not one_statement:
            await self.opened.wait()
        if self.failure is not None:
            raise self.failure
        return work(number)

    async def write(self, work: Callable[[Any], Any]) -> Any:
        return work("written")


async def settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_reads_that_come_while_others_run_share_the_next_transaction() -> None:
    store = Gated()
    grouped: GroupedReads[Any] = GroupedReads(store)
    reads = []
    for _ in range(MOST_AT_ONCE):
        reads.append(asyncio.create_task(grouped.read(lambda tx: tx)))
        await settled()
    reads += [asyncio.create_task(grouped.read(lambda tx: tx)) for _ in range(MOST_TOGETHER + 3)]
    await settled()
    assert store.transactions == MOST_AT_ONCE
    store.opened.set()
    found = await asyncio.gather(*reads)
    assert found[:MOST_AT_ONCE] == list(range(1, MOST_AT_ONCE + 1))
    assert {number: found.count(number) for number in found[MOST_AT_ONCE:]} == {
        MOST_AT_ONCE + 1: MOST_TOGETHER,
        MOST_AT_ONCE + 2: 3,
    }


async def test_a_refusal_concerns_its_own_read_alone() -> None:
    store = Gated()
    grouped: GroupedReads[Any] = GroupedReads(store)

    def refused(_tx: Any) -> str:
        raise ObjectNotFound("there is no such application")

    reads = [asyncio.create_task(grouped.read(work)) for work in (lambda tx: tx, refused, lambda tx: tx)]
    store.opened.set()
    one, other, third = await asyncio.gather(*reads, return_exceptions=True)
    assert (one, third) == (1, 1)
    assert isinstance(other, ObjectNotFound)


async def test_an_error_of_the_database_reaches_all_and_the_next_read_runs() -> None:
    store = Gated()
    grouped: GroupedReads[Any] = GroupedReads(store)
    store.failure = StoreUnavailable("gone")
    store.opened.set()
    reads = [asyncio.create_task(grouped.read(lambda tx: tx)) for _ in range(3)]
    found = await asyncio.gather(*reads, return_exceptions=True)
    assert [type(one) for one in found] == [StoreUnavailable] * 3
    store.failure = None
    assert await grouped.read(lambda tx: tx) == 2


async def test_a_caller_that_goes_away_disturbs_no_other() -> None:
    store = Gated()
    grouped: GroupedReads[Any] = GroupedReads(store)
    gone, stays = (asyncio.create_task(grouped.read(lambda tx: tx)) for _ in range(2))
    await settled()
    gone.cancel()
    await settled()
    store.opened.set()
    assert await asyncio.wait_for(stays, 5) == 1
    with pytest.raises(asyncio.CancelledError):
        await gone


async def test_writes_and_single_statements_go_straight_on() -> None:
    grouped: GroupedReads[Any] = GroupedReads(Gated())
    assert await grouped.write(lambda tx: tx) == "written"
    assert await grouped.read(lambda tx: tx, one_statement=True) == 1
