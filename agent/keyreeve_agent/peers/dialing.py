"""Dialing other members: the connect check on the certificate that they present, then an answered ping."""

import asyncio
import secrets
import socket
import ssl
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import grpc
import grpc.aio
from cryptography import x509

from keyreeve.channel_credentials import pinned_options
from keyreeve.errors import KeyreeveError, PeerIdentityInvalid, PeerIssuerUnknown, ServiceUnreachable
from keyreeve.peer.v1 import peer_service_pb2 as pb
from keyreeve.status import error_from_rpc
from keyreeve_agent.material.values import RollMember
from keyreeve_agent.peers.servicer import SERVICE
from keyreeve_agent.peers.view import ArrayView, PeerReach, client_context

TIMEOUT = 3.0
"""Seconds for a connection, and for an answer."""
_AT_ONCE = 8
"""Peers that are dialed at the same time."""


@dataclass(frozen=True)
class PeerDialer:
    """Dials members of the array with the loaded certificate; `material` is the directory of its present files."""

    view: ArrayView
    material: Callable[[], Path]
    own_address: Callable[[], str]
    """Where this member's own port listens."""
    now: Callable[[], float] = time.time
    timeout: float = TIMEOUT

    async def dial_all(self, members: Sequence[RollMember]) -> dict[str, PeerReach]:
        """Dial members of the array, some at a time."""
        limit = asyncio.Semaphore(_AT_ONCE)

        async def dial(member: RollMember) -> PeerReach:
            async with limit:
                return await self.dial(member)

        found = await asyncio.gather(*(dial(one) for one in members))
        return {one.member: one for one in found}

    async def reach_self(self) -> None:
        """Check that this member's own port presents the loaded certificate and answers a ping that presents it.

        Raises `keyreeve.errors`.
        """
        loaded = self.view.loaded
        presented = await asyncio.to_thread(self.presented, self.view.name, self.own_address())
        if loaded is None or presented != loaded.certificate:
            raise ServiceUnreachable("the peer port still presents another certificate")
        answer = await self.ping(self.view.name, self.own_address())
        if answer.boot_id != self.view.boot_id:
            raise PeerIdentityInvalid("another process answers on the peer port")

    async def dial(self, member: RollMember) -> PeerReach:
        """Dial one member; the reason of a failure is in the result."""
        try:
            await asyncio.to_thread(self.presented, member.name, member.address)
            began = self.now()
            answer = await self.ping(member.name, member.address)
            middle = (began + self.now()) / 2
            difference = answer.time.seconds + answer.time.nanos / 1e9 - middle
            return PeerReach(member.name, True, "", int(difference * 1000), answer.epoch)
        except KeyreeveError as failure:
            return PeerReach(member.name, False, failure.reason)

    def presented(self, name: str, address: str) -> x509.Certificate:
        """Return the certificate of the member at an address, once it has passed the connect check. Blocks.

        Raises the `Peer*` errors of `keyreeve.errors`, and `ServiceUnreachable`.
        """
        loaded, trust = self.view.loaded, self.view.trust
        if loaded is None or trust is None:
            raise ServiceUnreachable("this server has no peer certificate")
        host, _, port = address.rpartition(":")
        try:
            directory = self.material()
            context = client_context(loaded, str(directory / "certificate.pem"), str(directory / "key.pem"))
            # The rules below decide and say why; OpenSSL would only say that it failed. Nothing is sent on this connection.
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            with (
                socket.create_connection((host.strip("[]"), int(port)), self.timeout) as connection,
                context.wrap_socket(connection, server_hostname=name) as tls,
            ):
                der = tls.getpeercert(binary_form=True)
        except (OSError, ValueError) as failure:
            raise ServiceUnreachable(f"{name} at {address} cannot be reached: {failure}") from None
        if der is None:
            raise PeerIssuerUnknown(f"{name} at {address} presents no certificate")
        try:
            certificate = x509.load_der_x509_certificate(der)
        except ValueError:
            raise PeerIdentityInvalid(f"the certificate of {name} at {address} cannot be read") from None
        trust.accept_server(certificate, name, self.now())
        return certificate

    async def ping(self, name: str, address: str) -> pb.PingResponse:
        """Call Ping over a connection of its own. Raises `keyreeve.errors`."""
        async with self.channel(name, address) as channel:
            return await ping(channel, self.timeout)

    def channel(self, name: str, address: str) -> grpc.aio.Channel:
        """A channel to a member with the certificate that is loaded now."""
        loaded = self.view.loaded
        if loaded is None:
            raise ServiceUnreachable("this server has no peer certificate")
        credentials = grpc.ssl_channel_credentials(loaded.bundle_pem, loaded.material.key_pem, loaded.certificate_pem)
        return grpc.aio.secure_channel(address, credentials, options=pinned_options(address, name))


async def ping(channel: grpc.aio.Channel, timeout: float = TIMEOUT) -> pb.PingResponse:  # noqa: ASYNC109 - the call's deadline
    """Call Ping. Raises `keyreeve.errors`."""
    call = channel.unary_unary(f"/{SERVICE}/Ping", pb.PingRequest.SerializeToString, pb.PingResponse.FromString)
    nonce = secrets.token_bytes(16)
    try:
        answer: pb.PingResponse = await call(pb.PingRequest(nonce=nonce), timeout=timeout)
    except grpc.RpcError as failure:
        raise error_from_rpc(failure, "the peer") from None
    if answer.nonce != nonce:
        raise ServiceUnreachable("the peer answers something else than was asked")
    return answer
