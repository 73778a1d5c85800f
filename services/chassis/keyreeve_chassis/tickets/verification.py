"""Ticket verification: on whose behalf a gateway calls (docs/protocols.md).

A ticket is the CA service's word that the holder of one key may call on behalf of one operator. Its signature is checked
once; key, time, session and operator are compared on every call, against the same knowledge as certificates.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from keyreeve.errors import SessionClosed, TicketExpired, TicketRefused
from keyreeve.identity import OPERATOR_ROLES, Caller, Role, SpiffeId
from keyreeve.session_values import TicketContents
from keyreeve.ticket_key import TICKET_KEY
from keyreeve.tickets import decode_contents, decode_ticket, ticket_message
from keyreeve.trusted_certificates import issuer_among
from keyreeve_chassis.guard.call import Metadata
from keyreeve_chassis.guard.peers import DEFAULT_CACHE_SIZE, LENIENCY, TrustView, identity_of

_CLOCKS_DIFFER = 60
"""Seconds: a ticket of so near a future is accepted."""


class Closings(Protocol):
    """What this process knows of revoked certificates and closed sessions; answers from memory."""

    def is_revoked(self, serial: int) -> bool:
        """Whether the certificate with this serial number has been revoked."""
        ...

    def is_session_closed(self, session: str) -> bool:
        """Whether the session of an operator with this id has been closed."""
        ...


@dataclass(frozen=True, slots=True)
class Mandate:
    """A ticket that the CA service signed: on whose behalf its gateway may call."""

    contents: TicketContents
    subject: Caller
    signer_serial: int
    signer_not_after: int


class TicketVerifier:
    """Turns the ticket in a call's metadata into a `Mandate`. Cheap for tickets seen before."""

    def __init__(
        self,
        audience: str,
        trust: Callable[[], TrustView],
        now: Callable[[], int],
        known: Closings,
        *,
        cache_size: int = DEFAULT_CACHE_SIZE,
    ) -> None:
        """Take this service's name, the current trust, the clock (seconds since 1970), and what is revoked and closed."""
        self._audience = audience
        self._trust = trust
        self._now = now
        self._known = known
        self._cache_size = cache_size
        self._cache: OrderedDict[bytes, Mandate | str] = OrderedDict()
        self._generation = -1

    def verify(self, caller: Caller, metadata: Metadata, method: str) -> Mandate | None:
        """Return on whose behalf the call is made; None when it carries no ticket.

        Raises `TicketRefused`, `TicketExpired`, `SessionClosed`.
        """
        tickets = tickets_in(metadata)
        if not tickets:
            return None
        if caller.role is not Role.GATEWAY:
            raise _refused("caller", f"{caller} is no gateway and calls on nobody's behalf")
        if len(tickets) > 1:
            raise _refused("count", f"the call carries {len(tickets)} tickets, and one is accepted")
        mandate = self._read(tickets[0])
        contents, now = mandate.contents, self._now()
        if not caller.spki_sha256 or contents.gateway_spki_sha256 != caller.spki_sha256:
            raise _refused("key", "the ticket is bound to another key than that of the caller's certificate")
        if self._audience not in contents.audiences:
            raise _refused("audience", f"the ticket is for {', '.join(contents.audiences)}, not for {self._audience}")
        if contents.method_families and method.rpartition("/")[0][1:] not in contents.method_families:
            raise _refused("method", f"the ticket is for {', '.join(contents.method_families)}, not for {method}")
        if now > contents.expires_at:
            raise TicketExpired(
                f"the ticket expired {now - contents.expires_at} s ago",
                metadata={"expired": str(contents.expires_at), "server_time": str(now)},
            )
        if now < contents.issued_at - _CLOCKS_DIFFER:
            raise _refused("time", f"the ticket was issued {contents.issued_at - now} s in the future")
        self.check_session(mandate)
        return mandate

    def remaining(self, mandate: Mandate) -> float:
        """Seconds until the ticket expires."""
        return max(0, mandate.contents.expires_at - self._now())

    def check_session(self, mandate: Mandate) -> None:
        """Raise `SessionClosed` or `TicketRefused` unless the session goes on; whether the ticket has expired is not asked."""
        contents, subject, now = mandate.contents, mandate.subject, self._now()
        if self._known.is_revoked(mandate.signer_serial) or now > mandate.signer_not_after:
            raise _refused("signer", "the certificate that signed the ticket has expired or has been revoked")
        if self._known.is_session_closed(contents.session) or now > contents.session_ends_at:
            raise SessionClosed(f"the session of {subject} was closed or has ended")
        if subject.serial and self._known.is_revoked(subject.serial):
            raise SessionClosed(f"the certificate with which {subject} opened the session has been revoked")
        operators = self._trust().operators
        if operators is None:
            return
        record = operators.get(str(subject.id))
        if record is None or record.uid != subject.person_uid or contents.session_opened_at + LENIENCY < record.since:
            raise SessionClosed(f"no record of a person agrees with the session of {subject}")

    def _read(self, ticket: bytes) -> Mandate:
        view = self._trust()
        if view.generation != self._generation:
            self._cache.clear()
            self._generation = view.generation
        found = self._cache.get(ticket)
        if found is None:
            try:
                found = _examine(ticket, view)
            except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm, x509.ExtensionNotFound) as why:
                found = f"the ticket is not the CA service's: {why}".rstrip(": ")
            self._cache[ticket] = found
            if len(self._cache) > self._cache_size:
                self._cache.popitem(last=False)
        else:
            self._cache.move_to_end(ticket)
        if isinstance(found, str):
            raise _refused("signature", found)
        return found


def tickets_in(metadata: Metadata) -> list[bytes]:
    """The tickets in the metadata of a call."""
    values = [value for key, value in metadata if key == TICKET_KEY]
    return [value.encode() if isinstance(value, str) else value for value in values]


def _examine(ticket: bytes, view: TrustView) -> Mandate:
    """Decide everything about a ticket that does not depend on time or on the caller. Raises what reading it raises."""
    signed = decode_ticket(ticket)
    signer = x509.load_der_x509_certificate(signed.signer_der)
    if issuer_among(signer, view.issuers) is None:
        raise ValueError("its signer was not certified by an authority of the control hierarchy")
    identity, key = identity_of(signer.extensions), signer.public_key()
    if (identity.trust_domain, identity.role) != (view.trust_domain, Role.CA):
        raise ValueError(f"{identity} has signed it")
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise TypeError("the CA service's own keys are on P-256")
    key.verify(signed.signature, ticket_message(view.trust_domain, signed.contents), ec.ECDSA(hashes.SHA256()))
    contents = decode_contents(signed.contents)
    subject = SpiffeId.parse(contents.identity)
    if subject.trust_domain != view.trust_domain or subject.role not in OPERATOR_ROLES or not contents.person_uid:
        raise ValueError(f"{subject} is no operator here")
    serial = int.from_bytes(contents.certificate_serial, "big")
    caller = Caller(subject, subject.role, serial, contents.person_uid)
    return Mandate(contents, caller, signer.serial_number, int(signer.not_valid_after_utc.timestamp()))


def _refused(why: str, message: str) -> TicketRefused:
    return TicketRefused(message, metadata={"why": why})
