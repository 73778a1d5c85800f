"""Followers of topics: told at once, never more often than by polling, and polling where nobody tells them.

Time is virtual: what is counted is exact.
"""

import asyncio
import math
import threading
from collections.abc import Callable
from contextlib import asynccontextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyreeve_chassis.changes.topics import POLL_SECONDS, SAFETY_SECONDS, Topics
from support.virtual_time import run_virtually

SOON = POLL_SECONDS * 1.000001


def clock() -> float:
    return asyncio.get_running_loop().time()


def topics(*, notified: bool) -> Topics:
    return Topics(notified=notified, clock=asyncio.get_running_loop().time)


class Reader:
    """A follower that notes when it reads."""

    def __init__(self, followed: Topics, *names: str) -> None:
        self.wait = followed.follower(*names)
        self.reads: list[float] = []
        self.on_read: Callable[[], None] = lambda: None

    async def run(self) -> None:
        while True:
            await self.wait(math.inf)
            self.reads.append(clock())
            self.on_read()

    def between(self, start: float, end: float) -> int:
        return sum(start < at <= end for at in self.reads)


@asynccontextmanager
async def reading(followed: Topics, *names: str):
    reader = Reader(followed, *names)
    task = asyncio.create_task(reader.run())
    try:
        yield reader
    finally:
        task.cancel()


def test_without_notifications_a_follower_reads_four_times_a_second() -> None:
    async def main() -> None:
        async with reading(topics(notified=False), "config") as reader:
            await asyncio.sleep(60.1)
            assert reader.between(0, 60.1) == 60 / POLL_SECONDS

    run_virtually(main())


def test_with_notifications_a_follower_reads_at_a_change_and_once_in_a_while() -> None:
    async def main() -> None:
        followed = topics(notified=True)
        async with reading(followed, "config") as config, reading(followed, "tokens") as tokens:
            await asyncio.sleep(62)
            assert config.between(0, 62) == 60 / SAFETY_SECONDS
            followed.bump(["config"])
            await asyncio.sleep(1)
            assert config.reads[-1] == 62, "at once"
            assert config.between(61, 63) == 1
            assert tokens.between(61, 63) == 0, "another topic's"

    run_virtually(main())


def test_what_changed_before_there_was_a_follower_is_read_at_once() -> None:
    async def main() -> None:
        followed = topics(notified=True)
        followed.bump(["config"])
        async with reading(followed, "config") as reader:
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert reader.reads == [0.0]

    run_virtually(main())


def test_what_changes_while_a_follower_reads_is_read_next() -> None:
    async def main() -> None:
        followed = topics(notified=True)
        async with reading(followed, "config") as reader:
            await asyncio.sleep(12)
            reader.on_read = lambda: followed.bump(["config"]) if reader.between(11, 99) == 1 else None
            followed.bump(["config"])
            await asyncio.sleep(1)
            assert reader.between(11, 12 + SOON) == reader.between(11, 13) == 2

    run_virtually(main())


def test_a_burst_of_changes_takes_no_more_reads_than_polling() -> None:
    async def main() -> None:
        followed = topics(notified=True)
        async with reading(followed, "revocations") as reader:
            await asyncio.sleep(7)
            for _ in range(1000):
                followed.bump(["revocations"])
                await asyncio.sleep(0.01)
            last = clock()
            await asyncio.sleep(POLL_SECONDS)
            assert reader.between(6.9, last + POLL_SECONDS) <= 10 / POLL_SECONDS + 2
            assert reader.reads[-1] >= last - 0.01, "the last one is seen too"

    run_virtually(main())


def test_a_wait_that_goes_on_when_notifications_fail_becomes_polling_at_once() -> None:
    async def main() -> None:
        followed = topics(notified=True)
        async with reading(followed, "config") as reader:
            await asyncio.sleep(SAFETY_SECONDS + 1)
            lost = clock()
            followed.end_notified()
            await asyncio.sleep(2)
            assert reader.reads[2] == lost, "at once"
            assert reader.between(lost, lost + 2) >= 2 / POLL_SECONDS - 1

    run_virtually(main())


def test_when_notifications_begin_each_follower_reads_what_was_not_announced() -> None:
    async def main() -> None:
        followed = topics(notified=False)
        async with reading(followed, "config") as reader:
            await asyncio.sleep(1.1)
            followed.begin_notified()
            begun = clock()
            await asyncio.sleep(SAFETY_SECONDS - 1)
            assert reader.between(begun, begun + SOON) == 1
            assert reader.between(begun, clock()) == 1

    run_virtually(main())


def test_a_follower_of_several_topics_hears_of_each() -> None:
    async def main() -> None:
        followed = topics(notified=True)
        async with reading(followed, "revocations", "blocks") as reader:
            for number, topic in enumerate(("revocations", "blocks", "config")):
                await asyncio.sleep(1)
                followed.bump([topic])
                await asyncio.sleep(0.1)
                assert len(reader.reads) == 1 + min(number + 1, 2)

    run_virtually(main())


def test_a_wait_ends_when_its_follower_wants_it_to_and_tells_whether_to_read() -> None:
    async def main() -> None:
        followed = topics(notified=True)
        wait = followed.follower("config")
        assert await wait(math.inf)
        assert not await wait(0.5)
        assert clock() == pytest.approx(0.5)
        followed.bump(["config"])
        assert await wait(0.0)
        assert clock() == pytest.approx(0.5)
        followed.bump(["config"])
        assert not await wait(0.1), "it has to rest for longer"
        assert clock() == pytest.approx(0.6)
        assert await wait(0.15)
        assert clock() == pytest.approx(0.75)

    run_virtually(main())


@pytest.mark.parametrize(("notified", "longest"), [(True, SAFETY_SECONDS), (False, POLL_SECONDS)])
def test_a_follower_that_waits_in_short_steps_reads_no_more_and_no_less(notified: bool, longest: float) -> None:
    async def main() -> None:
        followed = topics(notified=notified)
        wait = followed.follower("config")
        reads = 0
        while clock() < 60.1:
            reads += await wait(0.1)
        assert reads == pytest.approx(60 / longest + 1, abs=1)

    run_virtually(main())


async def test_a_thread_that_has_committed_wakes_the_followers() -> None:
    followed = Topics(notified=True, safety_seconds=60)
    wait = followed.follower("config")
    await wait(math.inf)
    waiting = asyncio.create_task(wait(math.inf))
    await asyncio.sleep(0)
    thread = threading.Thread(target=followed.announce, args=({"config"},))
    thread.start()
    await asyncio.wait_for(waiting, 30)
    thread.join()


def test_announcing_after_the_end_of_the_loop_does_nothing() -> None:
    async def main() -> Topics:
        return topics(notified=True)

    followed = run_virtually(main())
    followed.announce(["config"])
    assert followed.counts == {}


pauses = st.floats(0.0, 3.0, allow_nan=False)


@given(
    st.lists(
        st.tuples(pauses, st.sampled_from(["change", "change", "change", "other", "lose", "restore"])), max_size=40
    )
)
def test_whatever_happens_a_change_is_read_in_time_and_polling_reads_no_less(events: list[tuple[float, str]]) -> None:
    async def main() -> None:
        followed = topics(notified=True)
        changes: list[float] = []
        async with reading(followed, "config") as reader:
            await asyncio.sleep(0.01)
            for pause, event in events:
                await asyncio.sleep(pause)
                if event == "lose":
                    followed.end_notified()
                elif event == "restore":
                    followed.begin_notified()
                else:
                    if event == "change":
                        changes.append(clock())
                    if followed.notified:  # else nobody says so
                        followed.bump(["config" if event == "change" else "other"])
            await asyncio.sleep(1)
            for at in changes:
                assert reader.between(at - 1e-9, at + SOON) >= 1
            assert len(reader.reads) <= clock() / POLL_SECONDS + 2

    run_virtually(main())
