"""Calls that have arrived together begin in rotation over their callers, a few in each turn of the event loop."""

import asyncio

from keyreeve_chassis.rpc.calls import Starts


async def begin(starts: Starts, caller: str, begun: list[str]) -> None:
    if (turn := starts.next(caller)) is not None:
        await turn
    begun.append(caller)


async def test_one_call_behind_hundreds_of_another_caller_begins_with_the_next_few():
    starts, begun = Starts(4), list[str]()
    async with asyncio.TaskGroup() as calls:
        for caller in ["heavy"] * 300 + ["light"]:
            calls.create_task(begin(starts, caller, begun))
    assert begun.index("light") < 4 + 4
    assert begun.count("heavy") == 300


async def test_a_call_that_finds_none_waiting_begins_at_once():
    starts = Starts(4)
    assert starts.next("one") is None
    assert starts.next("other") is None


async def test_a_call_that_was_given_up_while_it_waited_takes_no_turn():
    starts, begun = Starts(1), list[str]()
    calls = [asyncio.create_task(begin(starts, caller, begun)) for caller in ("a", "a", "a", "b")]
    await asyncio.sleep(0)
    calls[1].cancel()
    await asyncio.gather(*calls, return_exceptions=True)
    assert sorted(begun) == ["a", "a", "b"]
    assert calls[1].cancelled()
