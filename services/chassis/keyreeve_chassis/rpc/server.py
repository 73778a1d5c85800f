"""A gRPC server over mutual TLS, with its limits, a plaintext listener for health alone, and an orderly end."""

import asyncio
from dataclasses import dataclass

import grpc
import structlog
from pydantic import BaseModel, ConfigDict, Field

from keyreeve_chassis.audit.trail import Trail
from keyreeve_chassis.guard.guard import Guard, GuardLimits
from keyreeve_chassis.guard.peers import PeerVerifier
from keyreeve_chassis.guard.router import Router
from keyreeve_chassis.rpc.health import Health, health_service
from keyreeve_chassis.rpc.reflection import reflection_service
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
    # gRPC enforces it, and counts a call for as long as anything of it is in memory: a client that keeps just so many
    # in flight has some refused, with a bare UNAVAILABLE. So the caps that refuse with a reason must be reached first.
    streams_per_connection: int = Field(
        2048,
        ge=1,
        description="Calls and streams at once on one connection; well above `calls_in_flight` and `streams_in_flight`, "
        "which refuse with a reason.",
    )
    deadline: float = Field(60, gt=0, description="Longest deadline that a call may ask for.")
    stream_life: float = Field(3600, gt=0, description="When a long stream is ended, to be opened again.")
    verify_interval: float = Field(0.5, gt=0, description="How often the caller of an open stream is verified again.")
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

    def channel_arguments(self) -> list[tuple[str, int]]:
        """The part that gRPC applies to each connection."""
        return [
            # Worker processes share one port; the kernel spreads connections over them.
            ("grpc.so_reuseport", 1),
            ("grpc.max_receive_message_length", self.request_bytes),
            ("grpc.max_metadata_size", self.metadata_bytes),
            ("grpc.absolute_max_metadata_size", self.metadata_bytes),
            ("grpc.max_concurrent_streams", self.streams_per_connection),
            ("grpc.server_handshake_timeout_ms", _ms(self.handshake_timeout)),
            ("grpc.max_connection_age_ms", _ms(self.connection_age)),
            ("grpc.max_connection_age_grace_ms", _ms(self.connection_grace)),
            ("grpc.max_connection_idle_ms", _ms(self.connection_idle)),
            ("grpc.keepalive_time_ms", _ms(self.keepalive_interval)),
            ("grpc.keepalive_timeout_ms", _ms(self.keepalive_timeout)),
            ("grpc.keepalive_permit_without_calls", 1),
            ("grpc.http2.min_ping_interval_without_data_ms", _ms(self.ping_interval)),
            ("grpc.http2.max_ping_strikes", 2),
            # Only `identity`: what is compressed may be a bomb, and gRPC measures a message before it unpacks it.
            ("grpc.compression_enabled_algorithms_bitset", 1),
        ]


STOP_SECONDS = 2.0
"""What gRPC gets, after the grace, to end the calls that it has cancelled."""


async def stop_within(server: grpc.aio.Server, grace: float) -> None:
    """Stop a server: no new calls, `grace` seconds for those in progress, then an end."""
    # gRPC was seen never to say that it has stopped, with nothing in flight, in a process with several event loops. What
    # it does after the grace is its own tidying up, which need not keep a process from what it has to do before it ends.
    try:
        await asyncio.wait_for(server.stop(grace), grace + STOP_SECONDS)
    except TimeoutError:
        _log.warning("gRPC does not say that it has stopped")


@dataclass(slots=True)
class RunningServer:
    """A server that accepts calls until `stop`."""

    port: int
    health_port: int | None
    health: Health
    guard: Guard
    _server: grpc.aio.Server
    _health_server: grpc.aio.Server | None
    _trail: Trail | None = None

    async def stop(self, grace: float) -> None:
        """Stop in order, within `grace` seconds: say NOT_SERVING, take no new calls, end streams, finish calls.

        Calls that are still running after the grace are cancelled. The listener for health answers until the end.
        """
        self.health.close()
        self.guard.stop()
        # From here on gRPC tells clients to go elsewhere; what arrives in between is refused by the guard.
        await stop_within(self._server, grace)
        if self._trail is not None:
            await self._trail.close()
        if self._health_server is not None:
            await self._health_server.stop(None)
        _log.info("stopped", port=self.port)

    async def wait(self) -> None:
        """Return when the server has stopped."""
        await self._server.wait_for_termination()


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
        extra.append(reflection_service([*names, extra[0].descriptor.full_name]))
    guard = Guard(router.plus(extra), verifier, settings.limits(), telemetry, trail)
    server = grpc.aio.server(handlers=[guard.handler()], options=settings.channel_arguments())
    port = server.add_secure_port(f"{_bracketed(settings.host)}:{settings.port}", credentials.build())
    health_server: grpc.aio.Server | None = None
    health_port: int | None = None
    if settings.health_port is not None:
        # gRPC offers every method on every port of a server, so what must not have them is another server.
        only_health = Guard(Router([health_service(state)]), None, settings.limits())
        health_server = grpc.aio.server(handlers=[only_health.handler()], options=settings.channel_arguments())
        health_port = health_server.add_insecure_port(f"{_bracketed(settings.health_host)}:{settings.health_port}")
        await health_server.start()
    await server.start()
    if health is None:
        state.set_serving(serving=True)
    _log.info("serving", host=settings.host, port=port, health_port=health_port, services=names)
    return RunningServer(port, health_port, state, guard, server, health_server, trail)


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
