"""When a process that extends its lease in the database must end."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest

from keyreeve.errors import StoreUnavailable
from keyreeve_chassis.database.transactions import ServerTakesNoWrites
from keyreeve_chassis.database.writers import STANDBY_SECONDS, LeaseKeeping, PrimaryNotFound, WriterExpired

STANDBY, AWAY = ServerTakesNoWrites("a standby"), StoreUnavailable("no answer")


class Attempts:
    """A lease that is extended every five seconds, as the database answers."""

    def __init__(self) -> None:
        self.time = 1000.0
        self.answer: bool | Exception = True
        self.keeping = LeaseKeeping("one", self._extend, lambda: self.time)

    async def _extend(self) -> bool:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def go_on(self, answer: bool | Exception, seconds: float) -> None:
        """Let the database answer so for a while; only what can be repeated is."""
        self.answer, end = answer, self.time + seconds
        while self.time < end:
            with suppress(StoreUnavailable):
                asyncio.run(_awaited(self.keeping))
            self.time += 5


async def _awaited(work: Callable[[], Awaitable[None]]) -> None:
    await work()


def test_a_process_that_reaches_only_standbys_for_a_minute_ends_and_says_why() -> None:
    attempts = Attempts()
    attempts.go_on(STANDBY, STANDBY_SECONDS)
    with pytest.raises(PrimaryNotFound, match=r"only servers that take no writes for 60 s: does database\.url lead to"):
        attempts.go_on(STANDBY, 5)


def test_a_failover_that_ends_in_time_ends_no_process() -> None:
    attempts = Attempts()
    for _ in range(3):
        attempts.go_on(STANDBY, STANDBY_SECONDS)
        attempts.go_on(True, 5)


def test_a_database_that_is_away_ends_no_process_however_long_and_does_not_count_as_a_standby() -> None:
    attempts = Attempts()
    attempts.go_on(STANDBY, STANDBY_SECONDS)
    attempts.go_on(AWAY, 3600)
    attempts.go_on(STANDBY, STANDBY_SECONDS)


def test_a_process_whose_lease_has_expired_ends() -> None:
    with pytest.raises(WriterExpired):
        Attempts().go_on(False, 5)
