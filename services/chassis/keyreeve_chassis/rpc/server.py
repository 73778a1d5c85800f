"""A gRPC server over mutual TLS, with its limits, a plaintext listener for health alone, and an orderly end."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

import structlog
from pydantic import BaseModel, ConfigDict, Field

from keyreeve.errors import KeyreeveError
from keyreeve_chassis.audit.trail import Trail
from keyreeve_chassis.guard.guard import Guard, GuardLimits
from keyreeve_chassis.guard.peers import PeerVerifier
from keyreeve_chassis.guard.router import Router
from keyreeve_chassis.rpc.health import Health, health_service
from keyreeve_chassis.rpc.limits import ByteBudget, ConnectionLimits
from keyreeve_chassis.rpc.listener import Listener, ListenerLimits, raise_descriptor_limit
from keyreeve_chassis.rpc.reflection import reflection_services
from keyreeve_chassis.telemetry.calls import CallTelemetry
from keyreeve_chassis.tls import LiveServerCredentials

_log = structlog.get_logger(__name__)


class ServingSettings(BaseModel):
    """Where a service listens and how much it accepts. Durations in seconds, sizes in bytes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    host: str = Field("127.0.0.1", description="Address of the mutual-TLS listener.")
    port: int = Field(0, ge=0, le=65535, description="Its port; 0 lets the system choose.")
    health_host: str = Field("127.0.0.1", description="Address of the plaintext listener, which serves health alone.")
    health_port: int | None = Field(0, ge=0, le=65535, description="Its port; 0 lets the system choose, null: none.")
    reflection: bool = Field(default=True, description="Serve the contract's descriptors to every verified caller.")
    request_bytes: int = Field(2 * 1024 * 1024, ge=1024, description="Largest request that is read.")
    metadata_bytes: int = Field(16 * 1024, ge=1024, description="Largest metadata that is read.")
    calls_in_flight: int = Field(512, ge=1, description="Calls in progress at once in one process.")
    streams_in_flight: int = Field(1024, ge=1, description="Streams open at once in one process.")
    connections_per_peer: int = Field(64, ge=1, description="Connections of one identity with calls in progress.")
    connections: int = Field(8192, ge=1, description="Connections of one process, of all callers together.")
    open_connections_per_peer: int = Field(
        256, ge=1, description="Connections of one identity, with calls in progress or without."
    )
    # A call counts until its handler has ended: a client that keeps just so many in flight has some refused, with a bare
    # REFUSED_STREAM. So the caps that refuse with a reason must be reached first.
    streams_per_connection: int = Field(
        2048,
        ge=1,
        description="Calls and streams at once on one connection; well above `calls_in_flight` and `streams_in_flight`, "
        "which refuse with a reason.",
    )
    buffered_bytes: int = Field(
        64 * 1024 * 1024,
        ge=1024 * 1024,
        description="Requests and answers that one process buffers for all connections; beyond it the oldest unfinished "
        "calls are refused.",
    )
    resets_burst: int = Field(1000, ge=1, description="Calls that a connection may reset, or make wrongly, at once.")
    resets_per_second: int = Field(
        100, ge=1, description="The same in each second for long; beyond it the connection ends."
    )
    message_timeout: float = Field(10, gt=0, description="Time in which a request that has begun must arrive.")
    stall_timeout: float = Field(60, gt=0, description="When an answer that its caller does not read is given up.")
    deadline: float = Field(60, gt=0, description="Longest deadline that a call may ask for.")
    stream_life: float = Field(3600, gt=0, description="When a long stream is ended, to be opened again.")
    verify_interval: float = Field(0.5, gt=0, description="How often the caller of an open stream is verified again.")
    handshakes: int = Field(256, ge=1, description="Handshakes at once; beyond it the oldest is given up.")
    handshake_timeout: float = Field(10, gt=0, description="Time in which a connection must finish its handshake.")
    connection_age: float = Field(
        1800, gt=0, description="When a connection is asked to end; below the shortest certificate's life."
    )
    connection_grace: float = Field(60, gt=0, description="How long its calls may then still take.")
    connection_idle: float = Field(300, gt=0, description="When a connection without calls is closed.")
    keepalive_interval: float = Field(
        60, gt=0, description="How often a silent connection is asked for a sign of life."
    )
    keepalive_timeout: float = Field(20, gt=0, description="How long it may take to give one.")
    ping_interval: float = Field(10, gt=0, description="A client that pings more often than this is disconnected.")

    def limits(self) -> GuardLimits:
        """The part that the guard applies to each call."""
        return GuardLimits(
            calls_in_flight=self.calls_in_flight,
            streams_in_flight=self.streams_in_flight,
            connections_per_peer=self.connections_per_peer,
            request_bytes=self.request_bytes,
            deadline=self.deadline,
            stream_life=self.stream_life,
            verify_interval=self.verify_interval,
        )

    def listener_limits(self) -> ListenerLimits:
        """The part that a listener applies to each connection."""
        return ListenerLimits(
            connection=ConnectionLimits(
                request_bytes=self.request_bytes,
                metadata_bytes=self.metadata_bytes,
                streams=self.streams_per_connection,
                resets_burst=self.resets_burst,
                resets_per_second=self.resets_per_second,
                preface_timeout=self.handshake_timeout,
                message_timeout=self.message_timeout,
                stall_timeout=self.stall_timeout,
                age=self.connection_age,
                grace=self.connection_grace,
                idle=self.connection_idle,
                keepalive_interval=self.keepalive_interval,
                keepalive_timeout=self.keepalive_timeout,
                ping_interval=self.ping_interval,
            ),
            connections=self.connections,
            connections_per_peer=self.open_connections_per_peer,
            handshakes=self.handshakes,
            handshake_timeout=self.handshake_timeout,
        )


@dataclass(slots=True)
class RunningServer:
    """A server that accepts calls until `stop`."""

    port: int
    health_port: int | None
    health: Health
    guard: Guard
    _listener: Listener
    _health_listener: Listener | None
    _trail: Trail | None = None
    _stopped: asyncio.Event = field(default_factory=asyncio.Event)

    async def stop(self, grace: float) -> None:
        """Stop in order, within `grace` seconds: say NOT_SERVING, take no new calls, end streams, finish calls.

        Calls that are still running after the grace are cancelled. The listener for health answers until the end.
        """
        self.health.close()
        self.guard.stop()
        # From here on clients are told to go elsewhere; what arrives in between is refused by the guard.
        await self._listener.stop(grace)
        if self._trail is not None:
            await self._trail.close()
        if self._health_listener is not None:
            await self._health_listener.stop(0)
        self._stopped.set()
        _log.info("stopped", port=self.port)

    async def wait(self) -> None:
        """Return when the server has stopped."""
        await self._stopped.wait()


async def start_server(
    settings: ServingSettings,
    router: Router,
    verifier: PeerVerifier,
    credentials: LiveServerCredentials,
    *,
    telemetry: CallTelemetry | None = None,
    health: Health | None = None,
    trail: Trail | None = None,
) -> RunningServer:
    """Listen and serve `router`, with health and reflection beside it; the health state is SERVING when this returns.

    A `Health` that is passed in is the caller's: its state is not changed until the server stops.
    Raises `RuntimeError` when a port cannot be bound.
    """
    names = tuple(service.descriptor.full_name for service in router.services)
    state = health if health is not None else Health(names)
    extra = [health_service(state)]
    if settings.reflection:
        extra.extend(reflection_services([*names, extra[0].descriptor.full_name]))
    guard = Guard(router.plus(extra), verifier, settings.limits(), telemetry, trail)
    raise_descriptor_limit()
    budget = ByteBudget(settings.buffered_bytes)
    limits = settings.listener_limits()
    listener = Listener(guard, limits, budget, credentials.build(), _identifier(verifier))
    port = listener.listen(settings.host, settings.port)
    health_listener: Listener | None = None
    health_port: int | None = None
    if settings.health_port is not None:
        only_health = Guard(Router([health_service(state)]), None, settings.limits())
        health_listener = Listener(only_health, limits, budget, None)
        try:
            health_port = health_listener.listen(settings.health_host, settings.health_port)
        except RuntimeError:
            await listener.stop(0)
            raise
    if health is None:
        state.set_serving(serving=True)
    _log.info("serving", host=settings.host, port=port, health_port=health_port, services=names)
    return RunningServer(port, health_port, state, guard, listener, health_listener, trail)


def _identifier(verifier: PeerVerifier) -> Callable[[bytes], str]:
    def identify(pem: bytes) -> str:
        try:
            return str(verifier.verify(pem).id)
        except KeyreeveError:
            return "unknown"

    return identify
