"""Streams that a gateway opens for an operator: they end with their ticket, and with the operator's session."""

import asyncio

import grpc
from cryptography.hazmat.primitives.serialization import Encoding

from keyreeve.identity import Role
from keyreeve.ticket_key import TICKET_KEY
from keyreeve_chassis.guard.call import caller_of, peer_of
from support.access_matrix import PATHS
from support.echo_service import WATCH, EchoServicer, echo_service
from support.peer_certificates import TRUST_DOMAIN
from support.running import Harness, refused, serving
from support.ticket_matrix import TicketMaker, ticket_contents

ADMIN = f"spiffe://{TRUST_DOMAIN}/{PATHS[Role.ADMIN]}"


def opened(server: Harness, **changes: object) -> tuple[grpc.aio.Channel, bytes, str]:
    """A gateway's channel, a ticket for it, and the ticket's session."""
    gateway, signer = server.hierarchies.control.person(PATHS[Role.GATEWAY]), server.hierarchies.control.service("ca")
    contents = ticket_contents(ADMIN, "uid", gateway.certificate.public_bytes(Encoding.DER))
    maker = TicketMaker(signer.certificate.public_bytes(Encoding.DER), signer.key, contents)
    return server.channel(gateway), maker.make(**changes), contents.session


def watch(channel: grpc.aio.Channel, ticket: bytes) -> grpc.aio.UnaryStreamCall:
    return channel.unary_stream(WATCH)(b"", metadata=((TICKET_KEY, ticket),))


async def test_a_stream_ends_with_ok_when_its_ticket_expires_and_goes_on_under_the_next_one() -> None:
    servicer = EchoServicer()
    async with serving([echo_service(servicer)]) as server:
        channel, ticket, session = opened(server, expires_at=int(server.clock.seconds()) + 1)
        async with channel:
            stream = watch(channel, ticket)
            await stream.read()
            assert await stream.read() is grpc.aio.EOF
            assert await stream.code() is grpc.StatusCode.OK
    [call] = servicer.calls
    assert (caller_of(call).id.path[-1], peer_of(call).id.path[-1], call.session) == ("ann", "one", session)


async def test_a_stream_ends_within_a_second_of_hearing_that_its_session_is_closed() -> None:
    async with serving([echo_service(EchoServicer())]) as server:
        channel, ticket, session = opened(server)
        async with channel:
            stream = watch(channel, ticket)
            await stream.read()
            server.revocations.sessions.add(session)
            async with asyncio.timeout(5):
                assert (await refused(stream)).reason == "SESSION_CLOSED"
