"""Calls to sign are let in together, in rotation of their callers."""

import asyncio

import pytest

from keyreeve.errors import TooManyInFlight
from keyreeve_ca.issuance.batching import (
    BUSY_SECONDS,
    GREEDY,
    MOST_AHEAD,
    MOST_CERTIFICATES,
    MOST_IN_SHORT_TURN,
    UNEVEN_SECONDS,
    Turn,
    Turns,
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


async def test_when_nobody_else_comes_it_waits_half_as_long(clock: Clock) -> None:
    """The clock stands still, so the whole time never passes."""
    turns = Turns(clock, 0.002)
    await make_busy(turns)
    await asyncio.wait_for(turns.enter("a", 1), 60)


async def test_while_calls_keep_coming_they_wait_for_each_other_and_are_let_in_together(clock: Clock) -> None:
    turns = Turns(clock, 0.001)
    await make_busy(turns)
    calls = [asyncio.create_task(let_in(turns, [], "a")) for _ in range(5)]
    done, _ = await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
    assert done == set(calls)


async def test_once_as_many_are_there_as_lately_they_wait_for_nobody_else(clock: Clock) -> None:
    turns = Turns(clock, LONG)
    await make_busy(turns)
    await asyncio.wait_for(asyncio.gather(let_in(turns, [], "a"), let_in(turns, [], "a")), 60)


async def test_fewer_than_lately_wait_for_the_others(clock: Clock) -> None:
    turns = Turns(clock, LONG)
    await make_busy(turns)
    call = asyncio.create_task(let_in(turns, [], "a"))
    assert not (await asyncio.wait({call}, timeout=0.05))[0]
    await asyncio.gather(call, let_in(turns, [], "a"))


async def test_after_a_pause_nobody_waits_for_company(clock: Clock) -> None:
    turns = Turns(clock, LONG)
    await make_busy(turns)
    clock.now += BUSY_SECONDS
    await turns.enter("a", 1)


async def test_a_caller_with_one_call_does_not_wait_behind_one_with_hundreds(clock: Clock) -> None:
    turns = Turns(clock)
    order: list[str] = []
    greedy = [asyncio.create_task(let_in(turns, order, "greedy")) for _ in range(500)]
    modest = [asyncio.create_task(let_in(turns, order, "modest")) for _ in range(2)]
    await asyncio.gather(*greedy, *modest)
    assert order.index("modest") == 0
    assert order.index("modest", 1) < MOST_IN_SHORT_TURN + MOST_AHEAD


async def test_those_with_nothing_else_in_hand_are_let_in_at_once_but_only_a_few_before_each_turn(clock: Clock) -> None:
    turns = Turns(clock)
    held = await turns.enter("greedy", 1)
    waits = asyncio.create_task(turns.enter("greedy", 1))
    await asyncio.sleep(0)
    ahead = [asyncio.create_task(turns.enter(f"modest-{n}", 1)) for n in range(MOST_AHEAD + 1)]
    await asyncio.sleep(0)
    assert [call.done() for call in (waits, *ahead)] == [False] + [True] * MOST_AHEAD + [False]
    turns.worked(held)
    await asyncio.wait_for(asyncio.gather(waits, *ahead), 60)


async def next_turn(turns: Turns, held: list[Turn], waiting: set[asyncio.Task[Turn]]) -> set[asyncio.Task[Turn]]:
    """End the turn of those held, and return who is let in next, all at once."""
    for turn in held:
        turns.worked(turn)
    done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    return done


async def greedy(turns: Turns) -> tuple[list[Turn], set[asyncio.Task[Turn]]]:
    """Someone has more in hand than is fair, and as much again waits."""
    held = list(await asyncio.gather(*(turns.enter("greedy", 1) for _ in range(GREEDY + 1))))
    waiting = {asyncio.create_task(turns.enter("greedy", 1)) for _ in range(GREEDY + 1)}
    await asyncio.sleep(0)
    return held, waiting


async def test_turns_are_short_when_another_caller_comes_beside_a_greedy_one(clock: Clock) -> None:
    turns = Turns(clock)
    held, waiting = await greedy(turns)
    await turns.enter("modest", 1)
    assert len(await next_turn(turns, held, waiting)) == MOST_IN_SHORT_TURN


async def test_turns_are_long_when_the_greedy_one_is_alone(clock: Clock) -> None:
    turns = Turns(clock)
    assert len(await next_turn(turns, *await greedy(turns))) == GREEDY + 1


async def test_turns_are_long_again_when_for_a_while_nobody_has_come_beside_the_greedy_one(clock: Clock) -> None:
    turns = Turns(clock)
    held, waiting = await greedy(turns)
    await turns.enter("modest", 1)
    clock.now += UNEVEN_SECONDS
    assert len(await next_turn(turns, held, waiting)) == GREEDY + 1


async def test_many_who_ask_for_little_each_are_worked_on_together(clock: Clock) -> None:
    turns = Turns(clock)
    held = list(await asyncio.gather(*(turns.enter(f"agent-{n}", 1) for n in range(MOST_CERTIFICATES))))
    waiting = {asyncio.create_task(turns.enter(f"other-{n}", 1)) for n in range(GREEDY)}
    ahead, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    assert len(ahead) == MOST_AHEAD
    assert len(await next_turn(turns, held, waiting)) == GREEDY - MOST_AHEAD


async def test_a_turn_is_counted_in_certificates_not_in_calls(clock: Clock) -> None:
    turns = Turns(clock)
    order: list[str] = []
    calls = [asyncio.create_task(let_in(turns, order, caller, 100)) for caller in ("a", "a", "a", "b")]
    await asyncio.gather(*calls)
    assert order == ["a", "b", "a", "a"]


async def test_callers_take_turns_by_certificates_not_by_calls(clock: Clock) -> None:
    turns = Turns(clock)
    order: list[str] = []
    calls = [asyncio.create_task(let_in(turns, order, "batches", 100)) for _ in range(5)]
    calls += [asyncio.create_task(let_in(turns, order, "singles")) for _ in range(150)]
    await asyncio.gather(*calls)
    second = order.index("batches", order.index("batches") + 1)
    assert order[:second].count("singles") >= 100
    assert order[:150].count("batches") >= 2


async def test_whoever_was_away_gets_no_more_than_the_others_when_they_come_back(clock: Clock) -> None:
    turns = Turns(clock)
    order: list[str] = []
    await asyncio.gather(*(let_in(turns, order, "stayed", 10) for _ in range(50)))
    order.clear()
    calls = [asyncio.create_task(let_in(turns, order, "came", 10)) for _ in range(20)]
    calls += [asyncio.create_task(let_in(turns, order, "stayed", 10)) for _ in range(20)]
    await asyncio.gather(*calls)
    assert abs(order[:20].count("came") - 10) <= MOST_AHEAD


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
    turns = Turns(clock, 0.002, most=100)
    await make_busy(turns)
    given_up = asyncio.create_task(turns.enter("a", 63))
    await asyncio.sleep(0)
    given_up.cancel()
    await asyncio.wait({given_up})
    await turns.enter("a", 75)


async def test_the_next_turn_begins_when_all_of_this_one_have_done_their_work_or_ended(clock: Clock) -> None:
    turns = Turns(clock)
    first, second = await asyncio.gather(turns.enter("a", 1), turns.enter("a", 1))
    third = asyncio.create_task(turns.enter("a", 1))
    turns.worked(first)
    turns.worked(first)
    for _ in range(20):
        await asyncio.sleep(0)
    assert not third.done()
    turns.leave(second)
    await asyncio.wait_for(third, 60)
