"""A control plane at rest reads its database a few times a second, and polls it where nothing tells of changes."""

import time
from typing import Any

import pytest

from keyreeve.errors import StoreUnavailable
from keyreeve_ca import coordinator, worker
from keyreeve_chassis.audit.leader import Leader
from keyreeve_chassis.changes.over_ipc import ChangesHandler
from keyreeve_chassis.changes.over_postgresql import PostgresqlChanges
from keyreeve_chassis.changes.topics import POLL_SECONDS, Topics
from keyreeve_chassis.database import storage
from keyreeve_chassis.database.transactions import Database
from support.running_ca import RunningCa, document, running, unique
from support.waiting import wait_for

WATCHED_SECONDS = 5.0
MOST_READS = 60
"""In that time, of a coordinator and two workers; polling, they read two hundred times."""
NOWHERE = "postgresql://keyreeve@127.0.0.1:1/nothing"

pytestmark = pytest.mark.slow


@pytest.fixture(params=["sqlite", "postgresql"])
def kind(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


@pytest.fixture
def topics(monkeypatch: pytest.MonkeyPatch) -> list[Topics]:
    """The topics of the coordinator and of each worker, the last three once they have started.

    Before them may be those of the control plane whose copies tests start with.
    """
    made: list[Topics] = []

    def make(**how: Any) -> Topics:
        made.append(Topics(**how))
        return made[-1]

    monkeypatch.setattr(coordinator, "Topics", make)
    monkeypatch.setattr(worker, "Topics", make)
    return made


class Transactions:
    """Counts those of the databases that are opened from now on: other tests' control planes share this process."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reads = self.writes = 0
        opened: set[int] = set()
        read_here, write_here, make = Database.read_here, Database.write_here, Database.__init__

        def count(database: Database, *given: Any, **how: Any) -> None:
            opened.add(id(database))
            make(database, *given, **how)

        def read(database: Database, work: Any, **how: Any) -> Any:
            self.reads += id(database) in opened
            return read_here(database, work, **how)

        def write(database: Database, work: Any) -> Any:
            self.writes += id(database) in opened
            return write_here(database, work)

        monkeypatch.setattr(Database, "__init__", count)
        monkeypatch.setattr(Database, "read_here", read)
        monkeypatch.setattr(Database, "write_here", write)

    def watch(self) -> tuple[int, int]:
        reads, writes = self.reads, self.writes
        time.sleep(WATCHED_SECONDS)
        return self.reads - reads, self.writes - writes


def change_is_seen(ca: RunningCa) -> bool:
    """Change the configuration by one worker; whether another one comes to know it."""
    name = unique("profile")
    ca.client(worker=0).profiles.create(name, document())
    return wait_for("the other worker", lambda: name in ca.servings[1].live.current().profiles)


def test_it_reads_a_few_times_a_second_and_writes_next_to_nothing(
    kind: str, topics: list[Topics], request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def nothing_to_sign(_: Leader) -> None:
        """A leader looks more often in tests than in earnest."""

    monkeypatch.setattr(Leader, "sign", nothing_to_sign)
    transactions = Transactions(monkeypatch)
    with running(kind, request) as ca:
        wait_for("everybody to be told of changes", lambda: len(topics) >= 3 and all(t.notified for t in topics[-3:]))
        assert change_is_seen(ca)
        reads, _ = transactions.watch()
        assert reads <= MOST_READS
        reads, writes = transactions.watch()
        assert reads <= MOST_READS
        # On PostgreSQL processes extend their leases, and see whether notifications arrive.
        assert writes <= {"sqlite": 1, "postgresql": 20}[kind]


def test_where_nothing_tells_of_changes_every_process_polls(
    kind: str, topics: list[Topics], request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No notification gets through: neither from the coordinator to its workers, nor from PostgreSQL to it."""

    async def tell_nothing(*_: Any) -> Any:
        raise StoreUnavailable("nobody tells")

    if kind == "sqlite":
        monkeypatch.setattr(ChangesHandler, "__call__", tell_nothing)
    monkeypatch.setattr(storage, "PostgresqlChanges", lambda t, database, _: PostgresqlChanges(t, database, NOWHERE))
    transactions = Transactions(monkeypatch)
    with running(kind, request) as ca:
        polling = topics[-2:] if kind == "sqlite" else topics[-3:]
        for _ in range(3):
            assert change_is_seen(ca)
            assert [one.longest_wait for one in polling] == [POLL_SECONDS] * len(polling)
        wait_for("many reads", lambda: transactions.reads > MOST_READS)
