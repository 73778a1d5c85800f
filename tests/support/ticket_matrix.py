"""Every method of a service times every kind of ticket, over real mutual TLS, as a gateway would call it.

As in `access_matrix`, calls carry bytes that are no valid message: what gets through is told that it cannot be parsed.
"""

import secrets
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Protocol

import grpc
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from keyreeve.identity import Role
from keyreeve.session_proofs import spki_sha256
from keyreeve.session_values import AUDIENCES, SessionMethod, SignedTicket, TicketContents
from keyreeve.ticket_key import TICKET_KEY
from keyreeve.tickets import encode_contents, encode_ticket, ticket_message
from keyreeve_chassis.guard.access import AccessRule
from keyreeve_chassis.guard.router import Kind
from support.access_matrix import NO_MESSAGE, PATHS
from support.peer_certificates import TRUST_DOMAIN, Hierarchies, Leaf
from support.running import KnownRevocations, pinned, refused

PEOPLE = (Role.ADMIN, Role.OPERATOR, Role.AUDITOR)
CLOSED = "c" * 32
"""Id of a session that services take for closed."""


class Walked(Protocol):
    """The part of a method that is looked at."""

    @property
    def name(self) -> str: ...
    @property
    def kind(self) -> Kind: ...
    @property
    def row(self) -> AccessRule: ...


@dataclass(frozen=True)
class TicketMaker:
    """Signs tickets as a process of the CA service does."""

    signer_der: bytes
    signer_key: Any
    contents: TicketContents
    """Of a ticket of an operator that is accepted."""
    trust_domain: str = TRUST_DOMAIN

    def make(self, **changes: Any) -> bytes:
        contents = encode_contents(replace(self.contents, **changes))
        message = ticket_message(self.trust_domain, contents)
        signature = self.signer_key.sign(message, ec.ECDSA(hashes.SHA256()))
        return encode_ticket(SignedTicket(contents, signature, self.signer_der))


def ticket_contents(
    identity: str, person_uid: str, gateway_der: bytes, *, now: int | None = None, session: str = ""
) -> TicketContents:
    """What a ticket of this moment says."""
    now = int(time.time()) if now is None else now
    return TicketContents(
        session or secrets.token_hex(16),
        identity,
        person_uid,
        spki_sha256(gateway_der),
        AUDIENCES,
        (),
        SessionMethod.CERTIFICATE,
        secrets.token_bytes(15),
        now,
        now + 300,
        now,
        now + 3600,
    )


def bad_tickets(
    maker: TicketMaker, forger: Leaf, service: str, closed: str = CLOSED
) -> Iterable[tuple[str, list[bytes], str]]:
    """Kinds of tickets that no method accepts, with the reason and what `why` says."""
    good, now = maker.make(), maker.contents.issued_at
    others = tuple(one for one in (*AUDIENCES, "gateway") if one != service)
    forged = replace(maker, signer_der=forger.certificate.public_bytes(Encoding.DER), signer_key=forger.key)
    yield "two of them", [good, good], "TICKET_REFUSED count"
    yield "of another gateway's key", [maker.make(gateway_spki_sha256=bytes(32))], "TICKET_REFUSED key"
    yield "for other services", [maker.make(audiences=others)], "TICKET_REFUSED audience"
    yield "for other methods", [maker.make(method_families=("keyreeve.x.v1.Other",))], "TICKET_REFUSED method"
    yield "expired", [maker.make(issued_at=now - 400, expires_at=now - 100)], "TICKET_EXPIRED "
    yield "of the future", [maker.make(issued_at=now + 400, expires_at=now + 700)], "TICKET_REFUSED time"
    yield "of a closed session", [maker.make(session=closed)], "SESSION_CLOSED "
    yield "of a session that has ended", [maker.make(session_ends_at=now - 5)], "SESSION_CLOSED "
    yield "of another person of that name", [maker.make(person_uid="another")], "SESSION_CLOSED "
    yield "signed by another certificate", [forged.make()], "TICKET_REFUSED signature"
    yield "altered", [good[:-1] + bytes([good[-1] ^ 1])], "TICKET_REFUSED signature"
    yield "no ticket's bytes", [b"\xff"], "TICKET_REFUSED signature"


async def walk_tickets(
    channel: grpc.aio.Channel,
    methods: Iterable[Walked],
    bad: Iterable[tuple[str, list[bytes], str]],
    good: dict[Role, bytes],
) -> int:
    """Check the refusal of every method for every bad ticket, and the rights that good ones give; return the number tried.

    `channel` is that of a gateway, and `good` holds a ticket of an operator of each role.
    """
    tried, kinds = 0, list(bad)
    for method in methods:
        if method.row.anyone:
            continue
        for name, tickets, reason in kinds:
            told = await _told(channel, method, tickets)
            assert f"{told.reason} {told.metadata.get('why', '')}" == reason, (
                f"a ticket {name} at {method.name}: {told}"
            )
            tried += 1
        told = await _told(channel, method, [])
        assert told.reason == ("FIELD_INVALID" if Role.GATEWAY in method.row.roles else "ACCESS_DENIED"), method.name
        for role, ticket in good.items():
            told = await _told(channel, method, [ticket])
            # The intersection: what the operator may do themselves, and what may be done through a gateway.
            both = role in method.row.on_behalf and (role in method.row.roles or not method.row.roles)
            assert told.reason == ("FIELD_INVALID" if both else "ACCESS_DENIED"), f"for {role} at {method.name}: {told}"
            tried += 1
    return tried


async def walk_tickets_in_process(
    address: str, methods: Iterable[Walked], hierarchies: Hierarchies, revocations: KnownRevocations, service: str
) -> int:
    """`walk_tickets` at a service whose callers' certificates the test issues."""
    gateway, signer = hierarchies.control.person(PATHS[Role.GATEWAY]), hierarchies.control.service("ca")
    gateway_der = gateway.certificate.public_bytes(Encoding.DER)
    makers = {
        role: TicketMaker(
            signer.certificate.public_bytes(Encoding.DER),
            signer.key,
            ticket_contents(f"spiffe://{TRUST_DOMAIN}/{PATHS[role]}", "uid", gateway_der),
        )
        for role in PEOPLE
    }
    revocations.sessions.add(CLOSED)
    credentials = grpc.ssl_channel_credentials(hierarchies.control_root.pem, gateway.key_pem, gateway.chain_pem)
    bad = bad_tickets(makers[Role.ADMIN], hierarchies.control.service("credentials"), service)
    good = {role: maker.make() for role, maker in makers.items()}
    async with grpc.aio.secure_channel(address, credentials, options=pinned(service=service)) as channel:
        return await walk_tickets(channel, methods, bad, good)


async def _told(channel: grpc.aio.Channel, method: Walked, tickets: list[bytes]) -> Any:
    sent = {"timeout": 20, "metadata": tuple((TICKET_KEY, ticket) for ticket in tickets)}
    match method.kind:
        case Kind.UNARY:
            return await refused(channel.unary_unary(method.name)(NO_MESSAGE, **sent))
        case Kind.SERVER_STREAM:
            return await refused(channel.unary_stream(method.name)(NO_MESSAGE, **sent))
        case Kind.CLIENT_STREAM:
            return await refused(channel.stream_unary(method.name)(iter([NO_MESSAGE]), **sent))
        case Kind.BIDI_STREAM:
            return await refused(channel.stream_stream(method.name)(iter([NO_MESSAGE]), **sent))
