"""A chassis server on loopback for one test, with a movable clock and trust, and its clients."""

import ssl
import tempfile
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
from google.rpc import error_details_pb2, status_pb2

from keyreeve.identity import service_dns_name
from keyreeve_chassis.audit.trail import Trail
from keyreeve_chassis.guard.failures import DETAILS_KEY
from keyreeve_chassis.guard.peers import PeerVerifier, TrustView
from keyreeve_chassis.guard.router import Router, ServedService
from keyreeve_chassis.rpc.server import RunningServer, start_server
from keyreeve_chassis.settings.serving import ServingSettings
from keyreeve_chassis.telemetry.calls import CallTelemetry
from keyreeve_chassis.tickets.verification import TicketVerifier
from keyreeve_chassis.tls import LiveServerCredentials, ServerIdentity
from support.peer_certificates import TRUST_DOMAIN, Hierarchies, Leaf, TestCa


class MovedClock:
    """The machine's clock, moved by `offset` seconds."""

    def __init__(self) -> None:
        self.offset = 0

    def seconds(self) -> int:
        return int(time.time()) + self.offset


@dataclass
class KnownRevocations:
    """Revocations set by the test, and the age of this knowledge in seconds."""

    serials: set[int] = field(default_factory=set)
    seconds: float = 0.0
    sessions: set[str] = field(default_factory=set)
    """Ids of closed sessions."""

    def is_session_closed(self, session: str) -> bool:
        return session in self.sessions

    def is_revoked(self, serial: int) -> bool:
        return serial in self.serials

    def age(self) -> float:
        return self.seconds


@dataclass
class Harness:
    """A running server with its trust."""

    hierarchies: Hierarchies
    router: Router
    clock: MovedClock
    view: TrustView
    identity: ServerIdentity
    running: RunningServer = field(init=False)
    verifier: PeerVerifier = field(init=False)
    revocations: KnownRevocations = field(default_factory=KnownRevocations)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.running.port}"

    def trust(self, *issuers: TestCa) -> None:
        """Trust only these CAs from now on."""
        self.view = TrustView(TRUST_DOMAIN, tuple(ca.certificate for ca in issuers), self.view.generation + 1)

    def channel(
        self, leaf: Leaf | None, *, roots_pem: bytes | None = None, options: Sequence[tuple[str, Any]] = ()
    ) -> grpc.aio.Channel:
        """A client with the certificate `leaf`."""
        return grpc.aio.secure_channel(self.address, self.credentials(leaf, roots_pem), options=pinned(options))

    def credentials(self, leaf: Leaf | None, roots_pem: bytes | None = None) -> grpc.ChannelCredentials:
        roots = roots_pem or self.hierarchies.control_root.pem
        if leaf is None:
            return grpc.ssl_channel_credentials(roots)
        return grpc.ssl_channel_credentials(roots, leaf.key_pem, leaf.chain_pem)


def pinned(options: Sequence[tuple[str, Any]] = (), *, service: str = "ca") -> list[tuple[str, Any]]:
    """Channel options of a client that expects a service's reserved name and shares no connection."""
    name = service_dns_name(service, TRUST_DOMAIN)
    # Channels with equal arguments share connections, and a test must not meet another's.
    return [("grpc.ssl_target_name_override", name), ("grpc.use_local_subchannel_pool", 1), *options]


def client_tls(
    server: Harness, leaf: Leaf | None, *, alpn: str | None = "h2", most: ssl.TLSVersion | None = None
) -> ssl.SSLContext:
    """TLS of a client with the certificate `leaf`, for connections without gRPC."""
    context = ssl.create_default_context(cadata=server.hierarchies.control_root.pem.decode())
    context.check_hostname = False
    if alpn is not None:
        context.set_alpn_protocols([alpn])
    if most is not None:
        context.maximum_version = most
    if leaf is not None:
        with tempfile.TemporaryDirectory() as directory:
            chain, key = Path(directory) / "chain.pem", Path(directory) / "key.pem"
            chain.write_bytes(leaf.chain_pem)
            key.write_bytes(leaf.key_pem)
            context.load_cert_chain(chain, key)
    return context


@asynccontextmanager
async def serving(
    services: Iterable[ServedService] | Router,
    hierarchies: Hierarchies | None = None,
    *,
    telemetry: CallTelemetry | None = None,
    trail: Trail | None = None,
    shared: Path | None = None,
    **settings: Any,
) -> AsyncIterator[Harness]:
    """Serve on loopback until the end of the test."""
    hierarchies = hierarchies or Hierarchies.make()
    router = services if isinstance(services, Router) else Router(services)
    leaf = hierarchies.control.service()
    harness = Harness(
        hierarchies,
        router,
        MovedClock(),
        TrustView(TRUST_DOMAIN, (hierarchies.control.certificate,), 1),
        ServerIdentity(leaf.chain_pem, leaf.key_pem, hierarchies.control_root.pem),
    )
    harness.verifier = PeerVerifier(lambda: harness.view, harness.clock.seconds, harness.revocations)
    harness.running = await start_server(
        ServingSettings(**settings),
        router,
        harness.verifier,
        LiveServerCredentials(lambda: harness.identity),
        telemetry=telemetry,
        trail=trail,
        tickets=TicketVerifier("ca", lambda: harness.view, harness.clock.seconds, harness.revocations),
        shared=shared,
    )
    try:
        yield harness
    finally:
        await harness.running.stop(0)


def refusal(error: grpc.aio.AioRpcError) -> SimpleNamespace:
    """The error of a failed call: code, message, reason, metadata, violations, retry_after."""
    told = SimpleNamespace(
        code=error.code(), message=error.details(), reason=None, metadata={}, violations=[], retry_after=None, infos=0
    )
    for key, value in error.trailing_metadata() or ():
        if key != DETAILS_KEY:
            continue
        for detail in status_pb2.Status.FromString(value).details:
            info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
            unmet, retry = error_details_pb2.PreconditionFailure(), error_details_pb2.RetryInfo()
            if detail.Unpack(info):
                told.infos += 1
                told.reason, told.metadata, told.domain = info.reason, dict(info.metadata), info.domain
            elif detail.Unpack(bad):
                told.violations = [(one.field, one.description) for one in bad.field_violations]
            elif detail.Unpack(unmet):
                told.violations = [(one.subject, one.description) for one in unmet.violations]
            elif detail.Unpack(retry):
                told.retry_after = retry.retry_delay.ToTimedelta()
    return told


async def refused(call: Any) -> SimpleNamespace:
    """Await a unary call or drain a stream that must fail; return its error."""
    try:
        if hasattr(call, "read"):
            while await call.read() is not grpc.aio.EOF:
                pass
        else:
            await call
    except grpc.aio.AioRpcError as error:
        return refusal(error)
    raise AssertionError("the call was answered")
