"""Values of the calls about the audit log. Times are aware datetimes in UTC."""

from dataclasses import dataclass
from datetime import datetime

from keyreeve.audit.log import Checkpoint
from keyreeve.audit.record import Record
from keyreeve.audit.verifying import Problem


@dataclass(frozen=True, slots=True)
class LoggedRecord:
    """A record of the log."""

    position: int
    """Index of its commit in the log, from 0."""
    place: int
    """Index in its commit, from 0."""
    committed_at: datetime
    called_at: datetime
    record: Record
    body: bytes
    """The canonical bytes."""


@dataclass(frozen=True, slots=True)
class RecordPage:
    """A page of records.

    `token` gets the next page, of records that exist or will be written.
    """

    records: tuple[LoggedRecord, ...]
    token: str
    at_end: bool


@dataclass(frozen=True, slots=True)
class SignedCheckpoint:
    """A signed checkpoint."""

    body: bytes
    signature: bytes
    spki: bytes
    """The audit key that the service claims to use; compare it with the known one."""
    proof: tuple[bytes, ...] = ()
    """RFC 6962 consistency proof, if it was requested."""

    @property
    def checkpoint(self) -> Checkpoint:
        """The values of the checkpoint. Raises `keyreeve.audit.record.RecordInvalid`."""
        return Checkpoint.decode(self.body)


@dataclass(frozen=True, slots=True)
class AuditReport:
    """The result of a service's verification of its own tables."""

    checkpoint: int
    links: int
    records: int
    purged: int
    tail_links: int
    problems: tuple[Problem, ...]
