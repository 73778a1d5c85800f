"""Sessions as the use cases see them: values, and the port to their records."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from keyreeve.identity import Role, SpiffeId
from keyreeve.session_values import SessionMethod


@dataclass(frozen=True, slots=True)
class Session:
    """A session of an operator at a gateway. Times are seconds since 1970."""

    session_id: str
    identity: str
    """SPIFFE ID of the operator."""
    person_uid: str
    gateway: str
    """SPIFFE ID of the gateway that opened it."""
    method: SessionMethod
    credential: str
    """What the operator proved it with: the serial number of a certificate in hex, or the fingerprint of a key or an SSH CA."""
    client_address: str
    audiences: tuple[str, ...]
    method_families: tuple[str, ...]
    proof_sha256: bytes
    """Of the proof, which opens one session."""
    opened_at: int
    ends_at: int
    closed_at: int | None = None
    closed_by: str = ""

    @property
    def role(self) -> Role:
        """The role of the operator."""
        role = SpiffeId.parse(self.identity).role
        assert role is not None, "sessions are those of operators"
        return role

    @property
    def certificate_serial(self) -> bytes:
        """Serial number of the certificate of the proof; empty: there was none."""
        return bytes.fromhex(self.credential) if self.method is SessionMethod.CERTIFICATE else b""


class SessionRecords(Protocol):
    """The records in one transaction. Writing methods raise in a read transaction."""

    def find(self, session_id: str) -> Session | None:
        """Read one, or None. Raises `TrustTableAltered`."""
        ...

    def is_used(self, proof_sha256: bytes) -> bool:
        """Whether a session was opened with this proof."""
        ...

    def add(self, session: Session) -> None: ...
    def close(self, session: Session) -> None:
        """Store the end of a session under the next number of the feed of callers."""
        ...

    def page(self, now: int, *, person_uid: str | None, after: str, limit: int | None) -> Sequence[Session]:
        """Sessions that have not ended, in order of their ids, after `after`; of one person, or of all (None)."""
        ...

    def closed_after(self, seq: int, *, ending_from: int, limit: int) -> Sequence[tuple[int, str, int]]:
        """Number, id and latest end of sessions closed above `seq`, in order; ended ones are left out."""
        ...
