"""Changes between the processes of one instance: the coordinator, which commits them, tells its workers over their socket.

A worker keeps one call open that holds what it has heard of; it is answered when there is something newer, so nothing is
lost between two calls. A coordinator that has been started anew does not know what the worker has heard, and says so at
once.
"""

import asyncio
import logging
import secrets
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from keyreeve.errors import KeyreeveError, ServiceStopping
from keyreeve_chassis.changes.topics import Topics
from keyreeve_chassis.processes.ipc import Client, Connection

CHANGES = "changes"
"""Name of the coordinator's handler."""
HOLD_SECONDS = 20.0
"""How long a call is left unanswered."""
_GRACE_SECONDS = 5.0
_LEAST_SECONDS = 0.1
"""Between two calls: a burst of changes is told in a few answers. Shorter than a follower rests between two reads."""

log = logging.getLogger(__name__)


@dataclass
class ChangesHandler:
    """The coordinator's side: an ipc handler. Not frozen: it remembers that it was closed."""

    topics: Topics
    hold_seconds: float = HOLD_SECONDS
    _epoch: str = field(default_factory=lambda: secrets.token_hex(8))
    _closed: bool = False

    async def __call__(self, payload: Any, _connection: Connection) -> tuple[str, Mapping[str, int]]:  # noqa: ANN401
        """Answer this coordinator's name and its counts, as soon as they differ from those that the worker sent."""
        epoch, counts = payload
        with suppress(TimeoutError):
            async with asyncio.timeout(self.hold_seconds):
                while not self._closed and (epoch, counts) == (self._epoch, self.topics.counts):
                    await self.topics.changed()
        if self._closed:
            raise ServiceStopping("the coordinator is stopping")
        return self._epoch, dict(self.topics.counts)

    async def close(self) -> None:
        """Answer the calls that are open; the socket's server waits for them when it ends."""
        self._closed = True
        self.topics.bump(())


@dataclass(frozen=True)
class CoordinatorChanges:
    """The worker's side. `client` is for nothing else: the coordinator frees what a worker had when its calls have ended."""

    client: Client
    topics: Topics
    hold_seconds: float = HOLD_SECONDS

    async def follow(self) -> None:
        """Announce the coordinator's changes, forever."""
        epoch, counts = "", dict[str, int]()
        while True:
            try:
                answer = await self.client.call("changes", (epoch, counts), self.hold_seconds + _GRACE_SECONDS)
            except KeyreeveError as failed:
                if self.topics.notified:
                    log.warning("changes are polled until the coordinator tells them again: %s", failed)
                self.topics.end_notified()
                await asyncio.sleep(self.topics.poll_seconds)
                continue
            self.topics.begin_notified()
            if answer[0] == epoch:
                self.topics.bump(topic for topic, count in answer[1].items() if counts.get(topic) != count)
            else:
                self.topics.renew()
            epoch, counts = answer[0], dict(answer[1])
            await asyncio.sleep(_LEAST_SECONDS)
