"""An audit log in which nothing happens costs next to nothing, and what happens after that is signed and fed at once."""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256

from keyreeve.audit.log import Checkpoint
from keyreeve.audit.verifying import Segment
from keyreeve.errors import ServiceStopping, StoreUnavailable
from keyreeve_ca.store.audit_tables import AUDIT
from keyreeve_chassis.audit.checkpoints import Checkpointer
from keyreeve_chassis.audit.feeding import SinkFeeding, SinkGate
from keyreeve_chassis.audit.leader import Leader
from keyreeve_chassis.audit.log import SqlAuditLog
from keyreeve_chassis.audit.sinks import Feeder, SinkFailed
from keyreeve_chassis.audit.sql import cursor_of
from keyreeve_chassis.changes.topics import Topics
from keyreeve_chassis.database.transactions import Database
from support.databases import CaDatabase

PATIENCE = 60.0
NEVER = 3600.0
KEY = ec.generate_private_key(ec.SECP256R1())


class Counted(Database):
    """Counts transactions."""

    reads = writes = 0

    def read_here(self, work, *, one_statement=False):
        self.reads += 1
        return super().read_here(work, one_statement=one_statement)

    def write_here(self, work):
        self.writes += 1
        return super().write_here(work)


class Audit:
    """An audit log with one chain and a leader, on counted databases."""

    def __init__(self, database: CaDatabase) -> None:
        self.topics = Topics(notified=True, safety_seconds=NEVER)
        self.writer = Counted(database.engine(), service="ca", threads=1, announce=self.topics.announce)
        self.reader = Counted(database.engine(connections=2, readonly=True), service="ca", threads=2)
        self.log = SqlAuditLog(AUDIT, self.reader, self.writer)
        self.chain = AUDIT.chain("test", lambda: 5, postgresql=not database.is_sqlite)
        self.leader = self.another_leader()

    def another_leader(self) -> Leader:
        signer = partial(KEY.sign, signature_algorithm=ec.ECDSA(SHA256()))
        return Leader(self.log, Checkpointer(AUDIT.tables, signer, lambda _: 1, lambda _: 0, lambda: 6_000))

    async def append(self) -> None:
        await self.writer.write(lambda c: self.chain.append(cursor_of(c), [b"record"]))

    async def signed(self, leader: Leader | None = None) -> int:
        """How many transactions one look of the leader takes."""
        before = self.writer.writes
        await (leader or self.leader).sign()
        return self.writer.writes - before

    async def newest(self) -> int:
        return Checkpoint.decode((await self.log.signed()).body).k

    def close(self) -> None:
        self.reader.close()
        self.writer.close()


@pytest.fixture
async def audit(ca_database: CaDatabase):
    opened = Audit(ca_database)
    yield opened
    opened.close()


async def test_a_leader_begins_no_transaction_where_nothing_was_appended(audit: Audit) -> None:
    await audit.append()
    assert await audit.signed() == 1
    assert await audit.newest() == 1
    assert await audit.signed() == 1, "that there is nothing more has to be found out"
    for _ in range(5):
        assert await audit.signed() == 0
    await audit.append()
    assert await audit.signed() == 1
    assert await audit.newest() == 2


async def test_a_leader_signs_what_another_one_has_not(audit: Audit) -> None:
    other = audit.another_leader()
    for leader in (audit.leader, other):
        await audit.append()
        for _ in range(2):
            await audit.signed(leader)
    await audit.append()
    assert await audit.signed(other) == 1
    assert await audit.signed() == 1
    assert await audit.newest() == 3


async def test_the_end_of_a_chain_is_signed(audit: Audit) -> None:
    await audit.append()
    for _ in range(3):
        await audit.signed()
    await audit.writer.write(lambda c: audit.chain.close(cursor_of(c)))
    await audit.signed()
    assert await audit.newest() == 2
    await audit.signed()
    assert await audit.signed() == 0


async def test_a_leader_goes_on_trying_while_another_one_is_at_it(postgresql_database: CaDatabase) -> None:
    """The other one may fail, and then there is no further change to be noticed."""
    audit = Audit(postgresql_database)
    await audit.append()
    with audit.reader.engine.connect() as other:
        audit.another_leader().checkpointer.run(other)
        for _ in range(3):
            assert await audit.signed() == 1
        other.rollback()
    await audit.signed()
    assert await audit.newest() == 1
    audit.close()


class MemorySink:
    """Takes what it is given, unless told to fail."""

    name = "memory"

    def __init__(self) -> None:
        self.position = 0
        self.batches: list[list[int]] = []
        self.asked = 0
        self.fails = False

    def reached(self) -> int:
        self.asked += 1
        if self.fails:
            raise SinkFailed("no room")
        return self.position

    def send(self, segments: Sequence[Segment], spki: bytes) -> None:
        self.batches.append([Checkpoint.decode(one.body).k for one in segments])
        self.position = self.batches[-1][-1]


class Fed:
    """A sink that is fed from a log."""

    def __init__(self, audit: Audit) -> None:
        self.sink = MemorySink()
        self.feeding = SinkFeeding(audit.log, (Feeder(self.sink, patience=0.2),), required=True, topics=audit.topics)
        self.task = asyncio.create_task(self.feeding.follow())

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not holds():
                with_next_turn = self.sink.asked
                while self.sink.asked == with_next_turn and not holds():
                    await asyncio.wait([self.task], timeout=0.01)

    async def turns(self, count: int) -> None:
        end = self.sink.asked + count
        await self.until(lambda: self.sink.asked >= end)


@pytest.fixture
async def fed(audit: Audit):
    made = Fed(audit)
    yield made
    made.task.cancel()
    await asyncio.gather(made.task, return_exceptions=True)


async def sign(audit: Audit, count: int) -> None:
    for _ in range(count):
        await audit.append()
        await audit.signed()


async def test_a_sink_that_is_up_to_date_is_asked_and_nothing_is_read(audit: Audit, fed: Fed) -> None:
    await sign(audit, 1)
    await fed.until(lambda: fed.sink.position == 1)
    await fed.turns(2)
    before = audit.reader.reads
    await fed.turns(3)
    assert audit.reader.reads == before
    await sign(audit, 1)
    await fed.until(lambda: fed.sink.position == 2)
    assert fed.feeding.problems() == []


async def test_a_sink_that_is_far_behind_is_fed_in_turns_that_follow_each_other(audit: Audit) -> None:
    await sign(audit, 120)
    fed = Fed(audit)
    await fed.until(lambda: fed.sink.position == 120)
    assert [len(batch) for batch in fed.sink.batches] == [50, 50, 20]
    assert [k for batch in fed.sink.batches for k in batch] == list(range(1, 121))
    fed.task.cancel()


async def test_a_sink_that_has_lost_what_it_had_gets_it_again(audit: Audit, fed: Fed) -> None:
    await sign(audit, 3)
    await fed.until(lambda: fed.sink.position == 3)
    await fed.turns(3)
    fed.sink.position = 0
    await fed.until(lambda: fed.sink.position == 3)
    assert fed.sink.batches[-1] == [1, 2, 3]


class Coordinator:
    """Answers a gate with these, one after the other."""

    def __init__(self, *answers: list[str] | Exception) -> None:
        self.answers = list(answers)
        self.known: list[object] = []

    async def call(self, name: str, payload: object, _seconds: float) -> list[str]:
        self.known.append(payload)
        if not self.answers:
            await asyncio.Event().wait()
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


async def test_a_gate_outlasts_a_coordinator_that_stops_and_sends_what_it_knows() -> None:
    coordinator = Coordinator(["no room"], ServiceStopping("stopping"), StoreUnavailable("gone"), [])
    gate = SinkGate(coordinator)  # type: ignore[arg-type]
    task = asyncio.create_task(gate.follow())
    async with asyncio.timeout(PATIENCE):
        while len(coordinator.known) < 5:
            await asyncio.wait([task], timeout=0.01)
    assert coordinator.known == [None, ["no room"], ["no room"], ["no room"], []]
    gate.check()
    task.cancel()


async def test_workers_hear_at_once_that_a_sink_fails_and_that_it_works_again(audit: Audit, fed: Fed) -> None:
    await sign(audit, 1)
    await fed.until(lambda: fed.sink.position == 1 and fed.feeding.problems() == [])
    assert await fed.feeding.answer_problems(None, None) == []
    fed.sink.fails = True
    problems: list[str] = []
    async with asyncio.timeout(PATIENCE):
        while not problems:
            problems = await fed.feeding.answer_problems([], None)
    assert problems == ["the memory sink: no room"]
    await sign(audit, 1)
    fed.sink.fails = False
    async with asyncio.timeout(PATIENCE):
        while problems:
            problems = await fed.feeding.answer_problems(problems, None)
    assert fed.sink.position == 2
