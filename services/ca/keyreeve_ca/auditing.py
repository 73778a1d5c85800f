"""The audit of a running process, put together: the trail of its calls, and in the keeper the leader's work."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from keyreeve.audit.log import Checkpoint
from keyreeve_ca.keystore import Signer
from keyreeve_ca.processes import every
from keyreeve_ca.storage import audit_sql
from keyreeve_ca.storage.audit_log import SqlAuditLog
from keyreeve_ca.storage.audit_tables import audit
from keyreeve_chassis.audit.checkpoints import Checkpointer
from keyreeve_chassis.audit.recording import MOST_SECONDS
from keyreeve_chassis.frames import Client

CHECKPOINT_SECONDS = 1.0
_DAY_MS = 86_400_000


@dataclass(frozen=True)
class Leader:
    """Signs a checkpoint each second in which there was something new; any number of processes may try."""

    log: SqlAuditLog
    checkpointer: Checkpointer

    @classmethod
    def of(cls, log: SqlAuditLog, signer: Signer, now: Callable[[], int], kept_days: int) -> "Leader":
        """`now` in seconds since 1970."""
        return cls(
            log,
            Checkpointer(
                audit,
                signer.sign,
                audit_sql.incarnation,
                horizon=lambda at: max(0, at - kept_days * _DAY_MS),
                now=lambda: now() * 1000,
            ),
        )

    async def sign(self) -> None:
        """The next checkpoint."""
        await self.log.checkpoint(self.checkpointer)

    async def follow(self) -> None:
        """Sign for ever."""
        await every(CHECKPOINT_SECONDS, self.sign)

    async def purge(self) -> None:
        """Delete the records that the newest checkpoint no longer vouches for being there."""
        last = Checkpoint.decode((await self.log.signed()).body)
        while await self.log.purge(last.horizon):
            pass


async def send_records(client: Client, records: Sequence[bytes]) -> None:
    """Have the keeper commit the records of a worker's calls."""
    await client.call("audit", list(records), MOST_SECONDS)
