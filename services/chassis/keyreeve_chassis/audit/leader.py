"""The leader's background work on an audit log: checkpoints each second, and purging."""

import logging
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

from keyreeve.audit.log import Checkpoint
from keyreeve.errors import AuditCheckpointNotFound
from keyreeve_chassis.audit.checkpoints import Checkpointer
from keyreeve_chassis.audit.log import SqlAuditLog
from keyreeve_chassis.audit.recording import MOST_SECONDS
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
class Leader:
    """Signs a checkpoint in each second that had new links; any number of processes may try."""

    log: SqlAuditLog
    checkpointer: Checkpointer

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
        )

    def jobs(self) -> list[Coroutine[Any, Any, None]]:
        """Background jobs."""
        return [self._sign_each_second(), every(_PURGE_SECONDS, self.purge)]

    async def _sign_each_second(self) -> None:
        """Sign what is new, forever. SQLite is asked only after a commit: no other process makes any."""
        writer, seen = self.log.writer, -1
        assert writer is not None

        async def sign() -> None:
            nonlocal seen
            commits = writer.commits
            if commits != seen:
                await self.sign()
                seen = commits

        await every(CHECKPOINT_SECONDS, sign if writer.is_sqlite else self.sign)

    async def sign(self) -> None:
        """Sign the next checkpoint."""
        if await self.log.reader.read(self.checkpointer.is_due, one_statement=True):
            await self.log.checkpoint(self.checkpointer)

    async def purge(self) -> None:
        """Delete the records that the newest checkpoint allows to purge."""
        try:
            last = Checkpoint.decode((await self.log.signed()).body)
        except AuditCheckpointNotFound:
            return
        while await self.log.purge(last.horizon):
            pass


async def send_records(client: Client, records: Sequence[bytes]) -> None:
    """Have the coordinator commit the audit records of a worker's calls."""
    await client.call("audit", list(records), MOST_SECONDS)
