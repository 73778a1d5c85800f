"""Changes on PostgreSQL: each process listens, on one connection of its own, for what the others' transactions touched.

LISTEN and NOTIFY only save reads. A process counts on them while an echo that it sends by its ordinary connections comes
back by the listening one: a pooler in transaction mode, a URL of another server, or a connection that was lost without a
word then leads to polling, as if there were no notifications.
"""

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import psycopg
from psycopg import sql
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from keyreeve.errors import StoreUnavailable
from keyreeve_chassis.changes.topics import Topics
from keyreeve_chassis.database.engine import postgresql_url, primary_only
from keyreeve_chassis.database.transactions import Database, channel_of, notify

ECHO_SECONDS = 5.0
"""Between two echoes: how long a connection may be dead before that is noticed, if nothing else tells."""
_ANSWER_SECONDS = 1.0
_CONNECT_SECONDS = 5
_FIRST_PAUSE = 0.5
_LONGEST_PAUSE = 30.0
"""Between two attempts to listen, where it never works."""

log = logging.getLogger(__name__)


class NotHeard(Exception):
    """An echo did not come back."""


@dataclass(frozen=True)
class PostgresqlChanges:
    """Listens, and announces what it hears. `url` is that of the listening connection; see `database.direct_url`."""

    topics: Topics
    database: Database
    url: str
    echo_seconds: float = ECHO_SECONDS
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep

    async def follow(self) -> None:
        """Listen forever; reconnect after a loss."""
        pause = _FIRST_PAUSE
        while True:
            try:
                await self._listen()
            except (psycopg.Error, DBAPIError, OSError, NotHeard, StoreUnavailable) as failed:
                if self.topics.notified or pause == _FIRST_PAUSE:
                    log.warning("changes are polled until PostgreSQL tells them: %s", _first_line(failed))
                pause = _FIRST_PAUSE if self.topics.notified else min(2 * pause, _LONGEST_PAUSE)
            finally:
                self.topics.end_notified()
            await self.sleep(pause)

    async def _listen(self) -> None:
        """Announce what is heard, until an echo stays away or the connection is lost."""
        changes = channel_of(self.database.service)
        echoes = f"{changes}_{secrets.token_hex(8)}"
        connection = await psycopg.AsyncConnection.connect(autocommit=True, **self._connect_arguments())
        async with connection:
            async with asyncio.timeout(_CONNECT_SECONDS):
                for channel in (changes, echoes):
                    await connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(channel)))
            while True:
                sent = secrets.token_hex(8)
                await self.database.write(partial(_send, echoes, sent))
                if not await self._hear(connection, changes, sent, _ANSWER_SECONDS):
                    raise NotHeard("a notification did not come back by the listening connection")
                if not self.topics.notified:
                    log.info("PostgreSQL tells of changes")
                self.topics.begin_notified()
                await self._hear(connection, changes, None, self.echo_seconds)

    def _connect_arguments(self) -> dict[str, Any]:
        # By SQLAlchemy, as for every other connection: its URLs write several hosts differently from libpq's.
        url = postgresql_url(self.url)
        _, arguments = self.database.engine.dialect.create_connect_args(url)
        return {
            **arguments,
            **primary_only(url),
            "application_name": f"keyreeve-{self.database.service}-changes",
            "connect_timeout": _CONNECT_SECONDS,
            "keepalives_idle": 10,
            "keepalives_interval": 5,
            "keepalives_count": 3,
        }

    async def _hear(
        self, connection: psycopg.AsyncConnection, changes: str, awaited: str | None, seconds: float
    ) -> bool:
        """Announce what is heard for so many seconds, or until the awaited echo; whether that came."""
        end = self.topics.clock() + seconds
        came = False
        while not came and (left := end - self.topics.clock()) > 0:
            if not await _readable(connection, left):
                break
            async for heard in connection.notifies(timeout=0):
                if heard.channel == changes:
                    self.topics.bump(heard.payload.split(","))
                came = came or heard.payload == awaited
        return came


def _send(channel: str, payload: str, connection: Connection) -> None:
    notify(connection, channel, payload)


async def _readable(connection: psycopg.AsyncConnection, seconds: float) -> bool:
    """Wait until the server has sent something; psycopg's own wait wakes up ten times a second."""
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    descriptor = connection.fileno()
    loop.add_reader(descriptor, readable.set)
    try:
        async with asyncio.timeout(seconds):
            await readable.wait()
    except TimeoutError:
        return False
    finally:
        loop.remove_reader(descriptor)
    return True


def _first_line(failed: Exception) -> str:
    return str(failed).partition("\n")[0]
