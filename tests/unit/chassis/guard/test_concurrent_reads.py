"""Few reads of a caller are worked on at once while others call."""

import asyncio
from collections import Counter

from keyreeve_chassis.guard.admission import ConcurrentReads


class Reads:
    """Reads that last until they are let go, and how many of each caller are worked on."""

    def __init__(self, **changes: object) -> None:
        self.now = 100.0
        self.limit = ConcurrentReads(clock=lambda: self.now, **changes)
        self.working: Counter[str] = Counter()
        self.go = asyncio.Event()

    async def read(self, caller: str) -> None:
        async with self.limit.take(caller):
            self.working[caller] += 1
            try:
                await self.go.wait()
            finally:
                self.working[caller] -= 1

    async def begun(self, callers: list[str]) -> list[asyncio.Task[None]]:
        tasks = [asyncio.create_task(self.read(caller)) for caller in callers]
        for _ in range(3):
            await asyncio.sleep(0)
        return tasks


async def test_a_caller_that_is_alone_waits_for_no_turn():
    reads = Reads()
    tasks = await reads.begun(["heavy"] * 50)
    assert reads.working["heavy"] == 50
    reads.go.set()
    await asyncio.gather(*tasks)


async def test_beside_another_caller_few_are_worked_on_and_all_end():
    reads = Reads(most=2)
    tasks = await reads.begun(["light", *["heavy"] * 50])
    assert reads.working == {"light": 1, "heavy": 2}
    reads.go.set()
    await asyncio.gather(*tasks)
    assert not reads.working.total()


async def test_another_caller_counts_for_a_while_after_its_last_call():
    reads = Reads(most=2, beside_seconds=1.0)
    reads.go.set()
    await asyncio.gather(*await reads.begun(["light"]))
    reads.go.clear()
    reads.now += 0.5
    first = await reads.begun(["heavy"] * 5)
    assert reads.working["heavy"] == 2
    reads.now += 1.0
    second = await reads.begun(["heavy"] * 5)
    assert reads.working["heavy"] == 7
    reads.go.set()
    await asyncio.gather(*first, *second)


async def test_a_read_that_is_given_up_while_it_waits_or_works_gives_its_turn_on():
    reads = Reads(most=1)
    light, working, waiting, last = await reads.begun(["light", "heavy", "heavy", "heavy"])
    waiting.cancel()
    working.cancel()
    for _ in range(3):
        await asyncio.sleep(0)
    assert reads.working["heavy"] == 1
    reads.go.set()
    await asyncio.gather(light, last)
    assert (working.cancelled(), waiting.cancelled()) == (True, True)
