"""Processes on PostgreSQL tell each other what they commit; where that does not work, they see it by polling.

How often a follower reads says which of the two it is: a follower that has been told and none that polls reads once.
"""

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from sqlalchemy import Connection

from keyreeve.errors import StoreUnavailable
from keyreeve_chassis.changes.over_postgresql import PostgresqlChanges
from keyreeve_chassis.changes.topics import POLL_SECONDS, Topics
from keyreeve_chassis.database.transactions import Database, touch
from keyreeve_chassis.processes import failpoints
from support.databases import CaDatabase
from support.postgres import Server
from support.postgres_proxy import PostgresProxy

PATIENCE = 60.0
NEVER = 3600.0
NOWHERE = "postgresql://keyreeve@127.0.0.1:1/nothing"


class Process:
    """A database with the topics of one process, and a follower of `config` that notes how often it reads."""

    def __init__(self, database: CaDatabase, url: str, echo_seconds: float) -> None:
        self.topics = Topics(notified=False, safety_seconds=NEVER)
        self.database = Database(database.engine(connections=2), service="ca", threads=2, announce=self.topics.announce)
        self.reads = 0
        self.read = asyncio.Event()
        following = PostgresqlChanges(self.topics, self.database, url, echo_seconds, self._sleep)
        self.tasks = [asyncio.create_task(following.follow()), asyncio.create_task(self._follow())]

    async def _sleep(self, seconds: float) -> None:
        await asyncio.sleep(min(seconds, 0.05))

    async def _follow(self) -> None:
        wait = self.topics.follower("config")
        while True:
            await wait(math.inf)
            self.reads += 1
            self.read.set()

    async def change(self, *topics: str) -> None:
        def work(connection: Connection) -> None:
            for topic in topics:
                touch(connection, topic)

        await self.database.write(work)

    async def read_more_than(self, reads: int) -> None:
        async with asyncio.timeout(PATIENCE):
            while self.reads <= reads:
                self.read.clear()
                await self.read.wait()

    async def until_notified(self, expected: bool = True) -> None:
        async with asyncio.timeout(PATIENCE):
            while self.topics.notified != expected:
                await self.topics.changed()

    async def quiet(self) -> int:
        """How often it has read, once it has read all there is so far."""
        await asyncio.sleep(2 * POLL_SECONDS)
        return self.reads

    async def end(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        self.database.close()


class Processes:
    """Makes processes, and ends them."""

    def __init__(self, database: CaDatabase) -> None:
        self._database = database
        self._made: list[Process] = []

    def start(self, url: str | None = None, *, echo_seconds: float = NEVER) -> Process:
        made = Process(self._database, self._database.location if url is None else url, echo_seconds)
        self._made.append(made)
        return made

    async def end(self) -> None:
        for one in self._made:
            await one.end()


@pytest.fixture
async def processes(postgresql_database: CaDatabase) -> AsyncIterator[Processes]:
    made = Processes(postgresql_database)
    yield made
    await made.end()


@asynccontextmanager
async def proxy(server: Server, directory: Path) -> AsyncIterator[PostgresProxy]:
    between = PostgresProxy(server.directory, directory / "proxy")
    await between.start()
    try:
        yield between
    finally:
        await between.stop()


def name_of(database: CaDatabase) -> str:
    return database.location.partition("@/")[2].partition("?")[0]


async def polls(process: Process) -> bool:
    """Whether it reads again and again, unasked."""
    await process.read_more_than(process.reads + 7)
    return True


async def test_another_process_reads_what_was_committed_and_nothing_else(processes: Processes) -> None:
    writer, reader = processes.start(), processes.start()
    await writer.until_notified()
    await reader.until_notified()
    before = await reader.quiet()
    await writer.change("config", "tokens")
    await reader.read_more_than(before)
    assert await reader.quiet() == before + 1
    await writer.change("tokens")
    await writer.change()
    assert await reader.quiet() == before + 1


async def test_rolled_back_changes_are_not_announced(processes: Processes) -> None:
    writer, reader = processes.start(), processes.start()
    await reader.until_notified()
    before = await reader.quiet()

    def fail(connection: Connection) -> None:
        touch(connection, "config")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await writer.database.write(fail)
    assert await reader.quiet() == before


async def test_followers_look_when_it_is_not_known_whether_a_commit_happened(processes: Processes) -> None:
    writer, reader = processes.start(), processes.start()
    await writer.until_notified()
    await reader.until_notified()
    before = await writer.quiet(), await reader.quiet()
    failpoints.arm({failpoints.ARM_VARIABLE: "ca.commit.after=raise", failpoints.ALLOW_VARIABLE: "1"})
    try:
        with pytest.raises(StoreUnavailable):
            await writer.change("config")
    finally:
        failpoints.arm({})
    await asyncio.wait_for(asyncio.gather(writer.quiet(), reader.quiet()), PATIENCE)
    assert writer.reads > before[0]
    assert reader.reads > before[1]


async def test_without_notifications_every_process_polls(processes: Processes) -> None:
    writer, reader = processes.start(NOWHERE), processes.start(NOWHERE)
    assert await polls(reader)
    assert not reader.topics.notified
    before = reader.reads
    await writer.change("config")
    await reader.read_more_than(before)
    assert reader.topics.longest_wait == POLL_SECONDS


async def test_behind_a_pooler_that_swallows_notifications_every_process_polls(
    processes: Processes, postgresql_database: CaDatabase, postgresql_server: Server, tmp_path: Path
) -> None:
    """It listens without an error, and hears nothing: only the echo that stays away tells."""
    async with proxy(postgresql_server, tmp_path) as pooler:
        pooler.deaf = True
        reader = processes.start(pooler.url(name_of(postgresql_database)))
        async with asyncio.timeout(PATIENCE):
            while pooler.connections < 2:
                assert await polls(reader)
                assert not reader.topics.notified
        pooler.deaf = False
        await reader.until_notified()
        await reader.end()


async def test_a_connection_that_is_lost_means_polling_until_there_is_another(
    processes: Processes, postgresql_database: CaDatabase, postgresql_server: Server, tmp_path: Path
) -> None:
    writer = processes.start(NOWHERE)
    async with proxy(postgresql_server, tmp_path) as between:
        reader = processes.start(between.url(name_of(postgresql_database)))
        await reader.until_notified()
        before = await reader.quiet()
        between.deaf = True  # the next connection is of no use either
        between.cut()
        await reader.until_notified(expected=False)
        assert await polls(reader)
        assert reader.reads > before
        between.deaf = False
        await reader.until_notified()
        before = await reader.quiet()
        await writer.change("config")
        await reader.read_more_than(before)
        assert await reader.quiet() == before + 1
        await reader.end()


async def test_a_connection_that_is_dead_without_a_word_is_noticed_by_its_echo(
    processes: Processes, postgresql_database: CaDatabase, postgresql_server: Server, tmp_path: Path
) -> None:
    async with proxy(postgresql_server, tmp_path) as between:
        reader = processes.start(between.url(name_of(postgresql_database)), echo_seconds=0.3)
        await reader.until_notified()
        between.thawed.clear()
        await reader.until_notified(expected=False)
        assert await polls(reader)
        between.thawed.set()
        await reader.until_notified()
        await reader.end()


async def test_listening_on_another_server_is_of_no_use(processes: Processes, postgresql_server: Server) -> None:
    """A URL of a replica, or of another database: what is committed here is not heard there."""
    reader = processes.start(postgresql_server.url("postgres"))
    for _ in range(3):
        assert await polls(reader)
        assert not reader.topics.notified
