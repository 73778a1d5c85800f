"""Changes between the processes of one instance: the coordinator tells its workers what it hears of, over its socket.

A worker keeps one call open that holds what it has heard of; it is answered when there is something newer, so nothing is
lost between two calls. A coordinator that has been started anew does not know what the worker has heard, and says so at
once. On PostgreSQL the coordinator listens for all of them.
"""

import asyncio
import logging
import secrets
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple

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


class Heard(NamedTuple):
    """What a coordinator has heard of."""

    epoch: str
    """Names the coordinator: another one counts anew."""
    generation: int
    """Rises when it may have missed a change of any topic."""
    notified: bool
    """Whether it hears of every change."""
    counts: Mapping[str, int]
    """Changes by topic."""


_NOTHING = Heard("", 0, False, {})


@dataclass
class ChangesHandler:
    """The coordinator's side: an ipc handler. Not frozen: it remembers that it was closed."""

    topics: Topics
    hold_seconds: float = HOLD_SECONDS
    _epoch: str = field(default_factory=lambda: secrets.token_hex(8))
    _closed: bool = False

    async def __call__(self, payload: Any, _connection: Connection) -> Heard:  # noqa: ANN401  # plain values
        """Answer what was heard of, as soon as it differs from what the worker sent."""
        known = Heard(*payload)
        with suppress(TimeoutError):
            async with asyncio.timeout(self.hold_seconds):
                while not self._closed and known == self._heard():
                    await self.topics.changed()
        if self._closed:
            raise ServiceStopping("the coordinator is stopping")
        return self._heard()

    async def close(self) -> None:
        """Answer the calls that are open; the socket's server waits for them when it ends."""
        self._closed = True
        self.topics.bump(())

    def _heard(self) -> Heard:
        topics = self.topics
        return Heard(self._epoch, topics.generation, topics.notified, dict(topics.counts))


@dataclass(frozen=True)
class CoordinatorChanges:
    """The worker's side.

    `client` is for calls that are held alone: the coordinator frees what a worker had once its calls have ended.
    """

    client: Client
    topics: Topics
    hold_seconds: float = HOLD_SECONDS

    async def follow(self) -> None:
        """Announce what the coordinator tells, forever."""
        known = _NOTHING
        while True:
            try:
                heard = Heard(*await self.client.call(CHANGES, known, self.hold_seconds + _GRACE_SECONDS))
            except KeyreeveError as failed:
                if self.topics.notified:
                    log.warning("changes are polled until the coordinator tells them again: %s", failed)
                self.topics.end_notified()
                await asyncio.sleep(self.topics.poll_seconds)
                continue
            if (heard.epoch, heard.generation) != (known.epoch, known.generation):
                self.topics.renew()
            self.topics.bump(topic for topic, count in heard.counts.items() if known.counts.get(topic) != count)
            if heard.notified:
                self.topics.begin_notified()
            else:
                self.topics.end_notified()
            known = heard
            await asyncio.sleep(_LEAST_SECONDS)
