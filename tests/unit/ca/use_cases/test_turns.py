"""Calls to sign are let in together, in rotation of their callers."""

import asyncio

import pytest

from keyreeve.errors import TooManyInFlight
from keyreeve_ca.turns import BUSY_SECONDS, MOST_CERTIFICATES, Turn, Turns

LONG = 3600.0


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


async def let_in(turns: Turns, order: list[str], caller: str, size: int = 1) -> Turn:
    turn = await turns.enter(caller, size)
    order.append(caller)
    turns.worked(turn)
    return turn


async def make_busy(turns: Turns) -> None:
    for turn in await asyncio.gather(let_in(turns, [], "a"), let_in(turns, [], "a")):
        turns.leave(turn)


async def test_a_call_that_comes_alone_waits_for_nobody(clock: Clock) -> None:
    await Turns(clock, LONG).enter("a", 1)


async def test_when_nobody_else_comes_it_waits_no_longer(clock: Clock) -> None:
    turns = Turns(clock, LONG)
    await make_busy(turns)
    await asyncio.wait_for(turns.enter("a", 1), 60)


async def test_while_calls_keep_coming_they_wait_for_each_other_and_are_let_in_together(clock: Clock) -> None:
    turns = Turns(clock, 0.001)
    await make_busy(turns)
    calls = [asyncio.create_task(let_in(turns, [], "a")) for _ in range(5)]
    done, _ = await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
    assert done == set(calls)


async def test_after_a_pause_nobody_waits_for_company(clock: Clock) -> None:
    turns = Turns(clock, LONG)
    await make_busy(turns)
    clock.now += BUSY_SECONDS
    await turns.enter("a", 1)


async def test_a_caller_with_one_call_does_not_wait_behind_one_with_hundreds(clock: Clock) -> None:
    turns = Turns(clock)
    order: list[str] = []
    greedy = [asyncio.create_task(let_in(turns, order, "greedy")) for _ in range(500)]
    modest = asyncio.create_task(let_in(turns, order, "modest"))
    await asyncio.gather(*greedy, modest)
    assert order.index("modest") < MOST_CERTIFICATES


async def test_a_turn_is_counted_in_certificates_not_in_calls(clock: Clock) -> None:
    turns = Turns(clock)
    order: list[str] = []
    calls = [asyncio.create_task(let_in(turns, order, caller, 100)) for caller in ("a", "a", "a", "b")]
    await asyncio.gather(*calls)
    assert order == ["a", "b", "a", "a"]


async def test_a_call_that_is_given_up_takes_nobody_s_place(clock: Clock) -> None:
    turns = Turns(clock)
    order: list[str] = []
    given_up = asyncio.create_task(let_in(turns, order, "a", MOST_CERTIFICATES))
    other = asyncio.create_task(let_in(turns, order, "b", MOST_CERTIFICATES))
    await asyncio.sleep(0)
    given_up.cancel()
    await other
    assert order == ["b"]
    await turns.enter("a", 1)


async def test_beyond_what_may_be_in_hand_a_call_is_refused_at_once_and_told_when_to_come_again(clock: Clock) -> None:
    turns = Turns(clock, most=1000)
    callers = [f"caller-{n}" for n in range(10)]
    first, *_ = await asyncio.gather(*(let_in(turns, [], caller, 100) for caller in callers))
    with pytest.raises(TooManyInFlight) as refused:
        await turns.enter("one too many", 1)
    assert refused.value.retry_after
    turns.leave(first)
    await turns.enter("one too many", 1)


async def test_one_caller_cannot_take_all_the_room(clock: Clock) -> None:
    turns = Turns(clock, most=1000)
    theirs = await let_in(turns, [], "greedy", 750)
    with pytest.raises(TooManyInFlight, match="750 of them for you"):
        await turns.enter("greedy", 1)
    await let_in(turns, [], "modest")
    turns.leave(theirs)
    await turns.enter("greedy", 750)


async def test_a_call_that_is_given_up_while_it_waits_leaves_its_room(clock: Clock) -> None:
    turns = Turns(clock, LONG, most=100)
    await make_busy(turns)
    given_up = asyncio.create_task(turns.enter("a", 63))
    await asyncio.sleep(0)
    given_up.cancel()
    await asyncio.wait({given_up})
    await turns.enter("a", 75)


async def test_the_next_turn_begins_when_all_of_this_one_have_done_their_work_or_ended(clock: Clock) -> None:
    turns = Turns(clock)
    first, second = await asyncio.gather(turns.enter("a", 1), turns.enter("b", 1))
    third = asyncio.create_task(turns.enter("c", 1))
    turns.worked(first)
    turns.worked(first)
    for _ in range(20):
        await asyncio.sleep(0)
    assert not third.done()
    turns.leave(second)
    await asyncio.wait_for(third, 60)
