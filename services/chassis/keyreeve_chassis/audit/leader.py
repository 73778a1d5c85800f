"""The audit log in a running process: the trail of its calls, and the leader's checkpoints and sinks."""

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import Connection

from keyreeve.audit.log import Checkpoint
from keyreeve.audit.verifying import Segment
from keyreeve.errors import AuditCheckpointNotFound, AuditUnavailable, StoreUnavailable
from keyreeve_chassis.audit import checkpoints
from keyreeve_chassis.audit.checkpoints import Checkpointer
from keyreeve_chassis.audit.log import SqlAuditLog
from keyreeve_chassis.audit.recording import MOST_SECONDS
from keyreeve_chassis.audit.sinks import Feeder, FileSink, Sink, SinkFailed, SyslogSink
from keyreeve_chassis.keys.ports import Signer
from keyreeve_chassis.processes.ipc import Client
from keyreeve_chassis.processes.lifecycle import every
from keyreeve_chassis.settings.sections import DatabaseServerSettings

CHECKPOINT_SECONDS = 1.0
_PURGE_SECONDS = 600
_FEED_SECONDS = 0.25
_LOOK_SECONDS = 0.02
_ASK_SECONDS = 0.2
_SILENCE_SECONDS = 1.5
_CHECKPOINTS_AT_ONCE = 50
_DAY_MS = 86_400_000

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SinkFeeding:
    """Feeds the sinks; in the coordinator."""

    log: SqlAuditLog
    feeders: tuple[Feeder, ...]
    required: bool

    @classmethod
    def of(cls, log: SqlAuditLog, settings: DatabaseServerSettings) -> "SinkFeeding":
        """Build it from the settings."""
        sinks: list[Sink] = []
        if settings.audit.file is not None:
            sinks.append(FileSink(settings.audit.file))
        if settings.audit.syslog is not None:
            sinks.append(SyslogSink(settings.audit.syslog, settings.state_directory / "audit-syslog.k"))
        return cls(log, tuple(Feeder(sink) for sink in sinks), settings.audit.sink_required)

    async def state(self) -> list[str]:
        """The problems of required sinks; while there are any, mutations are refused."""
        return [p for p in (feeder.problem() for feeder in self.feeders) if p is not None] if self.required else []

    def check(self) -> None:
        """Raise `AuditUnavailable` while a required sink fails."""
        for feeder in self.feeders if self.required else ():
            if (problem := feeder.problem()) is not None:
                raise _no_witness(problem)

    async def follow(self) -> None:
        """Feed the sinks, forever."""
        await asyncio.gather(*(self._feed(feeder) for feeder in self.feeders))

    async def _feed(self, feeder: Feeder) -> None:
        told = ""
        while True:
            await asyncio.sleep(_FEED_SECONDS)
            done = feeder.turn(self._fetch)
            waited = 0.0
            while not done.is_set():
                await asyncio.sleep(_LOOK_SECONDS)
                waited += _LOOK_SECONDS
                if waited >= feeder.seconds:
                    feeder.hang()
                    told = _tell(feeder, told)
            told = _tell(feeder, told)

    def _fetch(self, after: int) -> tuple[list[Segment], bytes]:
        """The next checkpoints; runs in the sink's thread."""

        def work(connection: Connection) -> list[Segment]:
            row = checkpoints.checkpoint_row(connection, self.log.schema.tables, after)
            if row is None and after:
                raise SinkFailed(f"it has checkpoint {after}, and the log does not reach it")
            last = Checkpoint.decode(row[0]) if row is not None else None
            return list(self.log.log.segments(connection, last, after + _CHECKPOINTS_AT_ONCE))

        return self.log.reader.read_here(work), self.log.reader.read_here(self.log.stored_spki)


def _tell(feeder: Feeder, told: str) -> str:
    """Log a sink's problem when it differs from `told`; return it."""
    problem = feeder.problem() or ""
    if problem != told:
        log.error("audit: %s", problem) if problem else log.info("audit: every sink is up to date again")
    return problem


@dataclass(frozen=True)
class Leader:
    """Signs a checkpoint in each second that had new links; any number of processes may try."""

    log: SqlAuditLog
    checkpointer: Checkpointer
    sinks: SinkFeeding

    @classmethod
    def of(cls, log: SqlAuditLog, signer: Signer, now: Callable[[], int], settings: DatabaseServerSettings) -> "Leader":
        """Build it; `now` is in seconds since 1970."""
        kept = settings.audit.kept_days * _DAY_MS
        return cls(
            log,
            Checkpointer(
                log.schema.tables,
                signer.sign,
                log.schema.restore_generation,
                horizon=lambda at: max(0, at - kept),
                now=lambda: now() * 1000,
            ),
            SinkFeeding.of(log, settings),
        )

    def jobs(self) -> list[Coroutine[Any, Any, None]]:
        """Background jobs."""
        return [every(CHECKPOINT_SECONDS, self.sign), every(_PURGE_SECONDS, self.purge), self.sinks.follow()]

    async def sign(self) -> None:
        """Sign the next checkpoint."""
        await self.log.checkpoint(self.checkpointer)

    async def purge(self) -> None:
        """Delete the records that the newest checkpoint allows to purge."""
        try:
            last = Checkpoint.decode((await self.log.signed()).body)
        except AuditCheckpointNotFound:
            return
        while await self.log.purge(last.horizon):
            pass


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
        """Poll the coordinator, forever."""
        while True:
            with suppress(StoreUnavailable):
                self._problems = list(await self._client.call("audit_state", None, 1.0))
                self._heard = self._clock()
            await asyncio.sleep(_ASK_SECONDS)


def _no_witness(problem: str) -> AuditUnavailable:
    return AuditUnavailable(
        f"nothing is changed while the audit has no witness outside; {problem}", retry_after=timedelta(seconds=1)
    )


async def send_records(client: Client, records: Sequence[bytes]) -> None:
    """Have the coordinator commit the audit records of a worker's calls."""
    await client.call("audit", list(records), MOST_SECONDS)
