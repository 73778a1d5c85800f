"""A coordinator tells its workers of changes over its socket; nothing is missed when either starts anew. Time is virtual."""

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from keyreeve_chassis.changes.over_ipc import CHANGES, HOLD_SECONDS, ChangesHandler, CoordinatorChanges
from keyreeve_chassis.changes.topics import POLL_SECONDS, SAFETY_SECONDS, Topics
from keyreeve_chassis.processes.ipc import Client, serve
from support.virtual_time import run_virtually

SOON = POLL_SECONDS * 1.000001


def clock() -> float:
    return asyncio.get_running_loop().time()


class Coordinator:
    """The one process that commits, which may end and start anew."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "socket" / "coordinator.sock"
        self.calls = 0

    async def start(self) -> None:
        self.topics = Topics(notified=True, clock=clock)
        self.handler = ChangesHandler(self.topics)
        self.server = await serve(self.path, {CHANGES: self._handle})

    async def _handle(self, payload, connection):
        self.calls += 1
        return await self.handler(payload, connection)

    async def stop(self) -> None:
        await self.handler.close()
        await self.server.close()


class Worker:
    """Follows one topic and notes when it reads."""

    def __init__(self, path: Path) -> None:
        self.client = Client(path)
        self.topics = Topics(notified=False, clock=clock)
        self.reads: list[float] = []
        following = CoordinatorChanges(self.client, self.topics)
        self.tasks = [asyncio.create_task(following.follow()), asyncio.create_task(self._read())]

    async def _read(self) -> None:
        wait = self.topics.follower("config")
        while True:
            await wait(math.inf)
            self.reads.append(clock())

    def between(self, start: float, end: float) -> int:
        return sum(start < at <= end for at in self.reads)

    async def end(self) -> None:
        for task in self.tasks:
            task.cancel()
        await self.client.close()


@asynccontextmanager
async def running(directory: Path) -> AsyncIterator[SimpleNamespace]:
    coordinator = Coordinator(directory)
    await coordinator.start()
    worker = Worker(coordinator.path)
    try:
        yield SimpleNamespace(coordinator=coordinator, worker=worker)
    finally:
        await worker.end()
        await coordinator.stop()


def test_an_idle_worker_asks_three_times_a_minute_and_reads_once_in_a_while(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path) as both:
            await asyncio.sleep(1)
            calls = both.coordinator.calls
            await asyncio.sleep(60)
            assert both.coordinator.calls - calls <= 60 / HOLD_SECONDS + 1
            assert both.worker.between(1, 61) <= 60 / SAFETY_SECONDS + 1
            assert both.worker.topics.notified

    run_virtually(main())


def test_a_commit_of_the_coordinator_is_read_by_the_worker_at_once(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path) as both:
            for round_ in range(1, 6):
                await asyncio.sleep(7)
                before = clock()
                both.coordinator.topics.bump(["other"])
                await asyncio.sleep(0.15)
                assert both.worker.reads[-1] < before, round_
                both.coordinator.topics.bump(["config"])
                changed = clock()
                await asyncio.sleep(SOON)
                assert both.worker.between(changed - 0.001, changed + SOON) == 1, round_

    run_virtually(main())


def test_a_burst_is_sent_in_a_few_responses(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path) as both:
            await asyncio.sleep(2)
            calls = both.coordinator.calls
            for _ in range(1000):
                both.coordinator.topics.bump(["config"])
                await asyncio.sleep(0.01)
            last = clock() - 0.01
            await asyncio.sleep(SOON)
            assert both.coordinator.calls - calls <= 105
            assert both.worker.between(2, clock()) <= 10 / POLL_SECONDS + 2
            assert both.worker.reads[-1] >= last

    run_virtually(main())


def test_while_there_is_no_coordinator_the_worker_polls(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path) as both:
            await asyncio.sleep(2)
            await both.coordinator.stop()
            stopped = clock()
            await asyncio.sleep(10)
            assert not both.worker.topics.notified
            assert 10 / POLL_SECONDS - 1 <= both.worker.between(stopped, stopped + 10) <= 10 / POLL_SECONDS + 1
            await both.coordinator.start()
            await asyncio.sleep(1)
            assert both.worker.topics.notified
            started = clock()
            await asyncio.sleep(10)
            assert both.worker.between(started, clock()) <= 10 / SAFETY_SECONDS + 1

    run_virtually(main())


def test_a_coordinator_ends_at_once_though_a_worker_waits_for_changes(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path) as both:
            await asyncio.sleep(2)
            before = clock()
            await both.coordinator.stop()
            assert clock() - before < 0.01
            await both.coordinator.start()

    run_virtually(main())


pauses = st.floats(0.0, 2.0, allow_nan=False)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(st.lists(st.tuples(pauses, st.sampled_from(["change", "change", "restart", "change while away"])), max_size=15))
def test_no_change_is_missed_however_the_coordinator_comes_and_goes(
    tmp_path: Path, events: list[tuple[float, str]]
) -> None:
    """What was committed before a coordinator is back may have been announced by nobody."""

    async def main() -> None:
        async with running(tmp_path) as both:
            changes: list[float] = []
            for pause, event in events:
                await asyncio.sleep(pause)
                if event != "change":
                    await both.coordinator.stop()
                    if event == "change while away":
                        changes.append(clock())
                        await asyncio.sleep(pause)
                    await both.coordinator.start()
                changes.append(clock())
                both.coordinator.topics.bump(["config"])
            await asyncio.sleep(1)
            for at in changes:
                assert both.worker.between(at - 1e-9, at + SOON) >= 1

    run_virtually(main())
