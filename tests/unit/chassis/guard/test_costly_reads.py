"""Costly reads run one at a time; a call that ends early gives up its place, not the turn of a read that goes on."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from keyreeve.errors import TooManyInFlight
from keyreeve.identity import Caller, Role, SpiffeId
from keyreeve_chassis.guard.call import Call
from keyreeve_chassis.guard.costly_reads import MOST_WAITING, CostlyReads


def call_of(name: str) -> Call:
    return Call("/x.Y/Z", Caller(SpiffeId.parse(f"spiffe://example.test/operators/admin/{name}"), Role.ADMIN, 1))


class Reads:
    """Reads that end when they are told to."""

    def __init__(self) -> None:
        self.begun: list[asyncio.Future[str]] = []

    async def __call__(self) -> str:
        self.begun.append(asyncio.get_running_loop().create_future())
        return await self.begun[-1]


async def settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def begin(costly: CostlyReads, read: Callable[[], Awaitable[str]], name: str = "ann") -> "asyncio.Task[str]":
    return asyncio.create_task(costly.read(call_of(name), read))


async def test_a_cancelled_call_keeps_its_turn_until_its_read_has_ended() -> None:
    costly, reads = CostlyReads(), Reads()
    first = begin(costly, reads)
    await settled()
    first.cancel()
    second = begin(costly, reads)
    await settled()
    assert first.cancelled()
    assert len(reads.begun) == 1
    reads.begun[0].set_result("nobody's")
    await settled()
    reads.begun[1].set_result("its own")
    assert await second == "its own"


async def test_calls_that_are_all_cancelled_leave_one_read_and_no_place_taken() -> None:
    costly, reads = CostlyReads(), Reads()
    for _ in range(3):
        calls = [begin(costly, reads) for _ in range(MOST_WAITING * 3 // 4)]
        await settled()
        for each in calls:
            each.cancel()
        await settled()
        assert len(reads.begun) == 1
        assert sum(each.done() for each in calls) == len(calls)
    reads.begun[0].set_exception(OSError("nobody asks"))
    await settled()
    last = begin(costly, reads)
    await settled()
    reads.begun[1].set_result("read")
    assert await last == "read"


async def test_one_caller_has_three_quarters_of_the_places_and_an_abandoned_read_counts() -> None:
    costly, reads = CostlyReads(), Reads()
    calls = [begin(costly, reads) for _ in range(MOST_WAITING * 3 // 4)]
    await settled()
    calls[0].cancel()
    await settled()
    with pytest.raises(TooManyInFlight):
        await costly.read(call_of("ann"), reads)
    calls[1].cancel()
    await settled()
    other = begin(costly, reads, "ben")
    await settled()
    assert not other.done()
    for each in (*calls, other):
        each.cancel()
    reads.begun[0].set_result("")


async def test_a_failed_read_is_its_calls_failure_and_ends_its_turn() -> None:
    costly, reads = CostlyReads(), Reads()
    first, second = begin(costly, reads), begin(costly, reads)
    await settled()
    reads.begun[0].set_exception(OSError("gone"))
    with pytest.raises(OSError, match="gone"):
        await first
    await settled()
    reads.begun[1].set_result("read")
    assert await second == "read"
