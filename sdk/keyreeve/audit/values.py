"""What the audit's calls give: plain values. Times are aware datetimes in UTC."""

from dataclasses import dataclass
from datetime import datetime

from keyreeve.audit.log import Checkpoint
from keyreeve.audit.record import Record
from keyreeve.audit.verifying import Problem


@dataclass(frozen=True, slots=True)
class LoggedRecord:
    """A record of the log."""

    position: int
    """Where its commit stands in the log, from 0."""
    place: int
    """Where it stands in its commit, from 0."""
    committed_at: datetime
    called_at: datetime
    record: Record
    body: bytes
    """The canonical bytes."""


@dataclass(frozen=True, slots=True)
class RecordPage:
    """A page of records: `token` is where to go on, for what is there already or is still to come."""

    records: tuple[LoggedRecord, ...]
    token: str
    at_end: bool


@dataclass(frozen=True, slots=True)
class SignedCheckpoint:
    """A checkpoint as it was signed."""

    body: bytes
    signature: bytes
    spki: bytes
    """The audit key that the service says it has: compare it with the one that you know."""
    proof: tuple[bytes, ...] = ()
    """RFC 6962 consistency proof, when one was asked for."""

    @property
    def checkpoint(self) -> Checkpoint:
        """Its values. Raises `keyreeve.audit.record.RecordInvalid`."""
        return Checkpoint.decode(self.body)


@dataclass(frozen=True, slots=True)
class AuditReport:
    """What a service found when it checked its tables."""

    checkpoint: int
    links: int
    records: int
    purged: int
    tail_links: int
    problems: tuple[Problem, ...]
