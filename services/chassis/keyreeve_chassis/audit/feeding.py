"""Feeding the audit log's sinks in the coordinator, and refusing mutations everywhere while a required sink fails."""

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any

from sqlalchemy import Connection

from keyreeve.audit.log import Checkpoint
from keyreeve.audit.verifying import Segment
from keyreeve.errors import AuditUnavailable, KeyreeveError
from keyreeve_chassis.audit import checkpoints
from keyreeve_chassis.audit.checkpoints import CHECKPOINTS
from keyreeve_chassis.audit.log import SqlAuditLog
from keyreeve_chassis.audit.sinks import NEWEST, Feeder, FileSink, Sink, SinkFailed, StandardOutputSink, SyslogSink
from keyreeve_chassis.changes.topics import Topics
from keyreeve_chassis.processes.ipc import Client
from keyreeve_chassis.processes.ipc import Connection as IpcConnection
from keyreeve_chassis.settings.sections import DatabaseServerSettings
from keyreeve_chassis.standard_output import service_output
from keyreeve_chassis.telemetry.current_values import CurrentValues

SINK_PROBLEMS = "sink_problems"
"""Name of the coordinator's handler; also the topic of a change of what it answers."""
_REACH_SECONDS = 0.5
"""How often a sink without new checkpoints is asked whether it still takes them."""
_RETRY_SECONDS = 0.25
_HANGING_SECONDS = 0.1
"""Between two looks at a turn that takes too long."""
_HOLD_SECONDS = 0.5
"""How long a worker's question is left unanswered while nothing changes."""
_ANSWER_SECONDS = 1.0
_SILENCE_SECONDS = 1.5
_CHECKPOINTS_AT_ONCE = 50

FAILING = CurrentValues("keyreeve_audit_sink_failing", "1 while a sink of the audit log fails, else 0.", ("sink",))

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SinkFeeding:
    """Feeds the sinks; in the coordinator."""

    log: SqlAuditLog
    feeders: tuple[Feeder, ...]
    required: bool
    topics: Topics

    @classmethod
    def of(cls, log: SqlAuditLog, settings: DatabaseServerSettings, topics: Topics) -> "SinkFeeding":
        """Build it from the settings."""
        sinks: list[Sink] = []
        if settings.audit.file is not None:
            sinks.append(FileSink(settings.audit.file))
        if settings.audit.syslog is not None:
            sinks.append(SyslogSink(settings.audit.syslog, settings.state_directory / "audit-syslog.k"))
        if settings.audit.stdout:
            sinks.append(StandardOutputSink(service_output()))
        return cls(log, tuple(Feeder(sink) for sink in sinks), settings.audit.sink_required, topics)

    def problems(self) -> list[str]:
        """The problems of required sinks; while there are any, mutations are refused."""
        return [p for p in (feeder.problem() for feeder in self.feeders) if p is not None] if self.required else []

    async def answer_problems(self, payload: Any, _connection: IpcConnection) -> list[str]:  # noqa: ANN401
        """An ipc handler: the problems, once they differ from those that the worker sent, or after a while."""
        known = None if payload is None else list(payload)
        with suppress(TimeoutError):
            async with asyncio.timeout(_HOLD_SECONDS):
                while self.problems() == known:
                    await self.topics.changed()
        return self.problems()

    def check(self) -> None:
        """Raise `AuditUnavailable` while a required sink fails."""
        for problem in self.problems():
            raise _no_witness(problem)

    async def follow(self) -> None:
        """Feed the sinks, forever."""
        await asyncio.gather(*(self._feed(feeder) for feeder in self.feeders))

    async def _feed(self, feeder: Feeder) -> None:
        wait = self.topics.follower(CHECKPOINTS)
        told = ""
        while True:
            behind = bool(feeder.why) or feeder.sent
            behind = await wait(_RETRY_SECONDS if behind else _REACH_SECONDS) or behind
            done, limit = asyncio.Event(), feeder.seconds
            feeder.turn(partial(self._fetch, feeder, behind), _setter(done))
            while not await _is_set(done, limit):
                feeder.hang()
                told, limit = self._tell(feeder, told), _HANGING_SECONDS
            told = self._tell(feeder, told)

    def _tell(self, feeder: Feeder, told: str) -> str:
        """Log a sink's problem when it differs from `told`, and tell the workers; return it."""
        problem = feeder.problem() or ""
        FAILING.replace({(one.sink.name,): float(one.problem() is not None) for one in self.feeders})
        if problem != told:
            log.error("audit: %s", problem) if problem else log.info("audit: every sink is up to date again")
            self.topics.bump([SINK_PROBLEMS])
        return problem

    def _fetch(self, feeder: Feeder, behind: bool, after: int) -> tuple[list[Segment], bytes]:
        """The next checkpoints; runs in the sink's thread. Reads nothing for a sink that has them all."""
        if not behind and after == feeder.position:
            return [], b""

        def work(connection: Connection) -> list[Segment]:
            tables = self.log.schema.tables
            begin = max(checkpoints.last_number(connection, tables) - 1, 0) if after == NEWEST else after
            row = checkpoints.checkpoint_row(connection, tables, begin)
            if row is None and begin:
                raise SinkFailed(f"it has checkpoint {begin}, and the log does not reach it")
            last = Checkpoint.decode(row[0]) if row is not None else None
            return list(self.log.log.segments(connection, last, begin + _CHECKPOINTS_AT_ONCE))

        return self.log.reader.read_here(work), self.log.reader.read_here(self.log.stored_spki)


def _setter(done: asyncio.Event) -> Callable[[], None]:
    """Sets an event from another thread."""
    loop = asyncio.get_running_loop()

    def set_it() -> None:
        with suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(done.set)

    return set_it


async def _is_set(done: asyncio.Event, seconds: float) -> bool:
    """Wait for an event; return whether it came in time."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await done.wait()
    return done.is_set()


class SinkGate:
    """In a worker: refuses mutations while the coordinator reports a failed required sink, or is silent."""

    def __init__(self, client: Client, clock: Callable[[], float] = time.monotonic) -> None:
        self._client = client
        self._clock = clock
        self._problems: list[str] = []
        self._heard = clock()

    def check(self) -> None:
        """Raise `AuditUnavailable`."""
        if self._problems:
            raise _no_witness(self._problems[0])
        if self._clock() - self._heard > _SILENCE_SECONDS:
            raise AuditUnavailable(
                "the coordinator does not say how the audit's sinks are", retry_after=timedelta(seconds=1)
            )

    async def follow(self) -> None:
        """Ask the coordinator, which answers as soon as there is something new, forever."""
        known = None
        while True:
            try:
                known = list(await self._client.call(SINK_PROBLEMS, known, _ANSWER_SECONDS))
                self._problems = known
                self._heard = self._clock()
            except KeyreeveError:  # it is gone, stops, or is of another release; `check` says so in time
                await asyncio.sleep(_RETRY_SECONDS)


def _no_witness(problem: str) -> AuditUnavailable:
    return AuditUnavailable(
        f"nothing is changed while the audit has no witness outside; {problem}", retry_after=timedelta(seconds=1)
    )
