"""Values of sessions of operators at a gateway.

All times are aware datetimes in UTC, but those of a proof and of a ticket: seconds since 1970.
"""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from keyreeve.proof_values import CertificateProof as CertificateProof  # noqa: PLC0414 - they are of these values
from keyreeve.proof_values import SshProof as SshProof  # noqa: PLC0414

AUDIENCES = ("ca", "credentials", "membership")
"""The services that can accept tickets."""


class SessionMethod(StrEnum):
    """How an operator has proved who they are."""

    CERTIFICATE = "certificate"
    """With the key of their certificate."""
    SSH_KEY = "ssh_key"
    """By SSH, with a registered key."""
    SSH_CERTIFICATE = "ssh_certificate"
    """By SSH, with a certificate of a registered CA."""


@dataclass(frozen=True, slots=True)
class OperatorSession:
    """A session of an operator at a gateway."""

    name: str
    """`sessions/{session}`."""
    identity: str
    """SPIFFE ID of the operator."""
    person_uid: str
    gateway: str
    """SPIFFE ID of the gateway."""
    method: SessionMethod
    credential: str
    """What the operator proved it with: the serial number of a certificate in hex, or the fingerprint of a key or an SSH CA."""
    client_address: str
    """Of the operator's client, as the gateway says."""
    audiences: tuple[str, ...]
    """Services that accept its tickets."""
    method_families: tuple[str, ...]
    """gRPC services whose methods its tickets are for; empty: all."""
    opened_at: datetime
    ends_at: datetime
    """Latest end."""
    closed_at: datetime | None
    closed_by: str


@dataclass(frozen=True, slots=True)
class Ticket:
    """The right to call on behalf of an operator, bound to the key of one gateway."""

    data: bytes = field(repr=False)
    """For the metadata `keyreeve-ticket-bin`."""
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class OpenedSession:
    """A session and its first ticket."""

    session: OperatorSession
    ticket: Ticket


@dataclass(frozen=True, slots=True)
class TicketContents:
    """What a ticket says. Times are seconds since 1970."""

    session: str
    identity: str
    person_uid: str
    gateway_spki_sha256: bytes
    audiences: tuple[str, ...]
    method_families: tuple[str, ...]
    method: SessionMethod
    certificate_serial: bytes
    """Of the proof; empty: there was no certificate."""
    issued_at: int
    expires_at: int
    session_opened_at: int
    session_ends_at: int


@dataclass(frozen=True, slots=True)
class SignedTicket:
    """A ticket with what vouches for it."""

    contents: bytes
    """Encoded."""
    signature: bytes
    signer_der: bytes
    """The certificate of the process of the CA service that signed it."""


@dataclass(frozen=True, slots=True)
class HostKey:
    """The public SSH host key of the gateways."""

    algorithm: str
    public_key: bytes
    """As SSH sends it."""
    fingerprint: str
    """As `ssh-keygen -l` shows it."""
