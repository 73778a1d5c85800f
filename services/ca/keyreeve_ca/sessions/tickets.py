"""Tickets: what the CA service signs for a session, and for how long."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from keyreeve.session_values import SignedTicket, TicketContents
from keyreeve.tickets import encode_contents, encode_ticket, ticket_message
from keyreeve_ca.sessions.ports import Session

TICKET_SECONDS = 300


class Signer(Protocol):
    """The serving certificate of this process."""

    async def ready(self) -> None:
        """Return once there is a certificate to sign with."""
        ...

    def sign(self, message: bytes) -> tuple[bytes, tuple[bytes, ...]]:
        """Sign with ECDSA and SHA-256; also return the DER chain, leaf first."""
        ...


@dataclass(frozen=True)
class Tickets:
    """Issues tickets."""

    signer: Signer
    trust_domain: str
    now: Callable[[], int]

    def issue(self, session: Session, gateway_spki_sha256: bytes) -> tuple[bytes, int]:
        """Issue a ticket of a session for the holder of a key; return it with its last second."""
        now = self.now()
        expires = min(now + TICKET_SECONDS, session.ends_at)
        contents = encode_contents(
            TicketContents(
                session.session_id,
                session.identity,
                session.person_uid,
                gateway_spki_sha256,
                session.audiences,
                session.method_families,
                session.method,
                session.certificate_serial,
                now,
                expires,
                session.opened_at,
                session.ends_at,
            )
        )
        signature, chain = self.signer.sign(ticket_message(self.trust_domain, contents))
        return encode_ticket(SignedTicket(contents, signature, chain[0])), expires
