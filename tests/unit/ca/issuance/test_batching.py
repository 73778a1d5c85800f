"""Requests to sign are worked on in batches, in rotation of their callers."""

import asyncio
from contextlib import AsyncExitStack

import pytest

from keyreeve_ca.issuance.batching import (
    BUSY_SECONDS,
    HEAVY,
    MAX_AHEAD,
    MAX_BATCH,
    PART,
    PAUSE_SECONDS,
    PAUSES,
    SMALL_BATCH,
    UNEVEN_SECONDS,
    Batching,
)

LONG = 3600.0


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


async def let_in(batching: Batching, order: list[str], caller: str, size: int = 1) -> None:
    """Join a batch, and leave it at once."""
    async with batching.join(caller, size):
        order.append(caller)


async def held(batching: Batching, caller: str, size: int = 1) -> AsyncExitStack:
    """Join a batch, and leave it when the result is closed."""
    stack = AsyncExitStack()
    await stack.enter_async_context(batching.join(caller, size))
    return stack


async def make_busy(batching: Batching) -> None:
    await asyncio.gather(let_in(batching, [], "a"), let_in(batching, [], "a"))


async def test_a_request_that_comes_alone_does_not_wait(clock: Clock) -> None:
    await let_in(Batching(clock, LONG), [], "a")


async def test_when_no_other_comes_it_waits_half_as_long(clock: Clock) -> None:
    """The clock stands still, so the whole time never passes."""
    batching = Batching(clock, 0.002)
    await make_busy(batching)
    await asyncio.wait_for(let_in(batching, [], "a"), 60)


async def test_while_requests_keep_coming_they_wait_for_each_other_and_are_one_batch(clock: Clock) -> None:
    batching = Batching(clock, 0.001)
    await make_busy(batching)
    calls = [asyncio.create_task(held(batching, "a")) for _ in range(5)]
    done, _ = await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
    assert done == set(calls)


async def test_a_full_batch_does_not_wait_for_others(clock: Clock) -> None:
    batching = Batching(clock, LONG)
    await make_busy(batching)
    calls = [asyncio.create_task(let_in(batching, [], "a")) for _ in range(MAX_BATCH - 1)]
    assert not (await asyncio.wait(calls, timeout=0.05))[0]
    await asyncio.wait_for(asyncio.gather(*calls, let_in(batching, [], "a")), 60)


async def test_after_a_pause_no_request_waits_for_others(clock: Clock) -> None:
    batching = Batching(clock, LONG)
    await make_busy(batching)
    clock.now += BUSY_SECONDS
    await let_in(batching, [], "a")


async def test_a_caller_with_one_request_does_not_wait_behind_one_with_hundreds(clock: Clock) -> None:
    batching = Batching(clock)
    order: list[str] = []
    heavy = [asyncio.create_task(let_in(batching, order, "heavy")) for _ in range(500)]
    modest = [asyncio.create_task(let_in(batching, order, "modest")) for _ in range(2)]
    await asyncio.gather(*heavy, *modest)
    assert order.index("modest") == 0
    assert order.index("modest", 1) < SMALL_BATCH + MAX_AHEAD


async def test_callers_with_nothing_else_here_go_ahead_but_only_a_few_before_each_batch(clock: Clock) -> None:
    batching = Batching(clock)
    working = await held(batching, "heavy")
    waits = asyncio.create_task(held(batching, "heavy"))
    await asyncio.sleep(0)
    ahead = [asyncio.create_task(held(batching, f"modest-{n}")) for n in range(MAX_AHEAD + 1)]
    await asyncio.sleep(0)
    assert [call.done() for call in (waits, *ahead)] == [False] + [True] * MAX_AHEAD + [False]
    await working.aclose()
    await asyncio.wait_for(asyncio.gather(waits, *ahead), 60)


Waiting = set[asyncio.Task[AsyncExitStack]]


async def next_batch(working: list[AsyncExitStack], waiting: Waiting) -> Waiting:
    """End the batch that is worked on, and return who is in the next."""
    for one in working:
        await one.aclose()
    done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    return done


async def heavy_caller(batching: Batching) -> tuple[list[AsyncExitStack], Waiting]:
    """A caller of whom more is worked on than is fair, and as much again waits."""
    working = list(await asyncio.gather(*(held(batching, "heavy") for _ in range(HEAVY + 1))))
    waiting = {asyncio.create_task(held(batching, "heavy")) for _ in range(HEAVY + 1)}
    await asyncio.sleep(0)
    return working, waiting


async def test_batches_are_small_when_another_caller_comes_beside_a_heavy_one(clock: Clock) -> None:
    batching = Batching(clock)
    working, waiting = await heavy_caller(batching)
    await let_in(batching, [], "modest")
    assert len(await next_batch(working, waiting)) == SMALL_BATCH


async def test_batches_are_large_when_the_heavy_caller_is_alone(clock: Clock) -> None:
    assert len(await next_batch(*await heavy_caller(Batching(clock)))) == HEAVY + 1


async def test_batches_are_large_again_when_for_a_while_no_other_has_come_beside_the_heavy_caller(clock: Clock) -> None:
    batching = Batching(clock)
    working, waiting = await heavy_caller(batching)
    await let_in(batching, [], "modest")
    clock.now += UNEVEN_SECONDS
    assert len(await next_batch(working, waiting)) == HEAVY + 1


async def test_many_who_ask_for_little_each_are_worked_on_together(clock: Clock) -> None:
    batching = Batching(clock)
    working = list(await asyncio.gather(*(held(batching, f"agent-{n}") for n in range(MAX_BATCH))))
    waiting = {asyncio.create_task(held(batching, f"other-{n}")) for n in range(HEAVY)}
    ahead, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    assert len(ahead) == MAX_AHEAD
    assert len(await next_batch(working, waiting)) == HEAVY - MAX_AHEAD


async def test_a_batch_is_counted_in_certificates_not_in_requests(clock: Clock) -> None:
    batching = Batching(clock)
    order: list[str] = []
    await asyncio.gather(*(let_in(batching, order, caller, 100) for caller in ("a", "a", "a", "b")))
    assert order == ["a", "b", "a", "a"]


async def test_callers_alternate_by_certificates_not_by_requests(clock: Clock) -> None:
    batching = Batching(clock)
    order: list[str] = []
    calls = [asyncio.create_task(let_in(batching, order, "batches", 100)) for _ in range(5)]
    calls += [asyncio.create_task(let_in(batching, order, "singles")) for _ in range(150)]
    await asyncio.gather(*calls)
    second = order.index("batches", order.index("batches") + 1)
    assert order[:second].count("singles") >= 100
    assert order[:150].count("batches") >= 2


async def test_a_caller_that_was_away_gets_no_more_than_the_others_when_it_comes_back(clock: Clock) -> None:
    batching = Batching(clock)
    order: list[str] = []
    await asyncio.gather(*(let_in(batching, order, "stayed", 10) for _ in range(50)))
    order.clear()
    calls = [asyncio.create_task(let_in(batching, order, "came", 10)) for _ in range(20)]
    calls += [asyncio.create_task(let_in(batching, order, "stayed", 10)) for _ in range(20)]
    await asyncio.gather(*calls)
    assert abs(order[:20].count("came") - 10) <= MAX_AHEAD


async def test_a_caller_that_leaves_and_comes_back_at_once_does_not_begin_anew(clock: Clock) -> None:
    """One that always has a single large request here, beside one with many small ones, gets no more than its part."""
    batching = Batching(clock)
    order: list[str] = []
    small = [asyncio.create_task(let_in(batching, order, "small", 10)) for _ in range(40)]

    async def one_after_the_other() -> None:
        for _ in range(4):
            await let_in(batching, order, "large", 100)

    large = asyncio.create_task(one_after_the_other())
    await asyncio.gather(*small)
    assert order[:40].count("large") <= 4
    await large


async def test_a_request_that_is_given_up_takes_no_other_s_place(clock: Clock) -> None:
    batching = Batching(clock)
    order: list[str] = []
    given_up = asyncio.create_task(let_in(batching, order, "a", MAX_BATCH))
    other = asyncio.create_task(let_in(batching, order, "b", MAX_BATCH))
    await asyncio.sleep(0)
    given_up.cancel()
    await other
    assert order == ["b"]
    await let_in(batching, [], "a")


async def test_the_next_batch_begins_when_all_of_this_one_have_left(clock: Clock) -> None:
    batching = Batching(clock)
    first, second = await asyncio.gather(held(batching, "a"), held(batching, "a"))
    third = asyncio.create_task(held(batching, "a"))
    await first.aclose()
    for _ in range(20):
        await asyncio.sleep(0)
    assert not third.done()
    await second.aclose()
    await asyncio.wait_for(third, 60)


async def test_a_request_that_is_given_up_just_as_its_batch_begins_does_not_hold_the_next_one_up(clock: Clock) -> None:
    batching = Batching(clock)
    given_up = asyncio.create_task(held(batching, "a"))
    other = asyncio.create_task(held(batching, "a"))
    await asyncio.sleep(0)
    asyncio.get_running_loop().call_soon(given_up.cancel)  # right behind the beginning of the batch
    await (await other).aclose()
    await asyncio.wait({given_up})
    assert given_up.cancelled()
    await asyncio.wait_for(let_in(batching, [], "b"), 60)


async def worked_on(batching: Batching, clock: Clock, count: int, bytes_each: int) -> None:
    """Work on the items of a long request, each of which takes 10 ms."""
    part = batching.part()
    for _ in range(count):
        await part.take(bytes_each)
        clock.now += 0.01


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds for which a long request has paused."""
    found: list[float] = []

    async def sleep(seconds: float) -> None:
        found.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    return found


async def test_a_long_request_lets_other_work_in_by_the_size_of_its_items(clock: Clock, pauses: list[float]) -> None:
    await worked_on(Batching(clock), clock, 3 * PART, 500)
    assert pauses == [0, 0]
    pauses.clear()
    await worked_on(Batching(clock), clock, 3, 100 * 1024)
    assert pauses == [0, 0]


async def test_beside_another_caller_a_long_request_pauses_longer_than_it_works(
    clock: Clock, pauses: list[float]
) -> None:
    batching = Batching(clock)
    heavy = await held(batching, "heavy", 2 * HEAVY)
    await let_in(batching, [], "light")
    await worked_on(batching, clock, 2 * PART, 500)
    assert pauses == [pytest.approx(PAUSES * PART * 0.01)]
    pauses.clear()
    clock.now += PAUSE_SECONDS
    await worked_on(batching, clock, 2 * PART, 500)
    assert pauses == [0]
    await heavy.aclose()
