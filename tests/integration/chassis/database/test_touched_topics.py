"""What a transaction touches is announced in its own process once it is committed, on both databases."""

from collections.abc import Set

import pytest
from sqlalchemy import Connection

from keyreeve_chassis.database.transactions import Database, touch
from support.databases import CaDatabase


@pytest.fixture
def told() -> list[Set[str]]:
    return []


@pytest.fixture
def database(ca_database: CaDatabase, told: list[Set[str]]):
    opened = Database(ca_database.engine(), service="ca", threads=1, announce=told.append)
    yield opened
    opened.close()


async def test_topics_are_announced_once_after_the_commit(database: Database, told: list[Set[str]]) -> None:
    def work(connection: Connection) -> str:
        for topic in ("config", "tokens", "config"):
            touch(connection, topic)
        assert told == [], "not before"
        return "done"

    assert await database.write(work) == "done"
    assert told == [{"config", "tokens"}]
    await database.write(lambda c: touch(c, "operations"))
    assert told == [{"config", "tokens"}, {"operations"}]


async def test_a_transaction_that_touches_nothing_announces_nothing(database: Database, told: list[Set[str]]) -> None:
    await database.write(lambda c: touch(c, "config"))
    await database.write(lambda _: None)
    await database.read(lambda _: None)
    assert told == [{"config"}]
