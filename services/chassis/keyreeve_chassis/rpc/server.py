"""A gRPC server over mutual TLS, with its limits, a plaintext listener for health alone, and an orderly end."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import structlog

from keyreeve.errors import KeyreeveError
from keyreeve.identity import ALL_ROLES
from keyreeve_chassis.audit.trail import Trail
from keyreeve_chassis.guard.admission import GuardLimits
from keyreeve_chassis.guard.guard import Guard
from keyreeve_chassis.guard.peers import PeerVerifier
from keyreeve_chassis.guard.router import Router
from keyreeve_chassis.rpc.health import Health, health_service
from keyreeve_chassis.rpc.limits import ByteBudget, ConnectionLimits
from keyreeve_chassis.rpc.listener import Listener, Shared, raise_descriptor_limit
from keyreeve_chassis.rpc.reflection import reflection_services
from keyreeve_chassis.rpc.sockets.transport import ListenerLimits
from keyreeve_chassis.settings.serving import ServingSettings
from keyreeve_chassis.telemetry.calls import CallTelemetry
from keyreeve_chassis.tickets.verification import TicketVerifier
from keyreeve_chassis.tls import LiveServerCredentials

HEALTH_CALLS = 256
"""Calls, streams and connections of the plaintext listener, each; those of other listeners are not touched."""
HEALTH_CONNECTIONS_PER_ADDRESS = 64
"""Of that listener: the probes of a node come from one address, one connection each."""
HEALTH_STREAMS_PER_CONNECTION = 2
"""A check beside a watch. So one address has half of the calls."""
_HEALTH_BYTES = 4096
_HEALTH_IDLE = 30.0
"""Seconds; longer than most intervals of probes that keep their connection."""

_log = structlog.get_logger(__name__)


def guard_limits(settings: ServingSettings) -> GuardLimits:
    """The part that the guard applies to each call."""
    return GuardLimits(
        calls_in_flight=settings.calls_in_flight,
        streams_in_flight=settings.streams_in_flight,
        connections_per_peer=settings.connections_per_peer,
        request_bytes=settings.request_bytes,
        single_request_bytes=settings.single_request_bytes,
        deadline=settings.deadline,
        stream_life=settings.stream_life,
        verify_interval=settings.verify_interval,
    )


def listener_limits(settings: ServingSettings) -> ListenerLimits:
    """The part that a listener applies to each connection."""
    return ListenerLimits(
        connection=ConnectionLimits(
            request_bytes=settings.request_bytes,
            metadata_bytes=settings.metadata_bytes,
            streams=settings.streams_per_connection,
            resets_burst=settings.resets_burst,
            resets_per_second=settings.resets_per_second,
            refusals_burst=settings.refusals_burst,
            refusals_per_second=settings.refusals_per_second,
            preface_timeout=settings.handshake_timeout,
            message_timeout=settings.message_timeout,
            stall_timeout=settings.stall_timeout,
            age=settings.connection_age,
            grace=settings.connection_grace,
            idle=settings.connection_idle,
            keepalive_interval=settings.keepalive_interval,
            keepalive_timeout=settings.keepalive_timeout,
            ping_interval=settings.ping_interval,
        ),
        connections=settings.connections,
        connections_per_peer=settings.open_connections_per_peer,
        connections_per_address=settings.connections_per_address,
        handshakes=settings.handshakes,
        handshake_timeout=settings.handshake_timeout,
    )


@dataclass(slots=True)
class RunningServer:
    """A server that accepts calls until `stop`."""

    port: int
    health_port: int | None
    health: Health
    guard: Guard
    budget: ByteBudget
    """What the process buffers, for another listener of it."""
    _listener: Listener
    _health_listener: Listener | None
    _trail: Trail | None = None
    _stopped: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def connections(self) -> int:
        """Open connections of the mutual-TLS listener."""
        return self._listener.connections

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
    tickets: TicketVerifier | None = None,
    shared: Path | None = None,
) -> RunningServer:
    """Listen and serve `router`, with health and reflection beside it; the health state is SERVING when this returns.

    A `Health` that is passed in is the caller's: its state is not changed until the server stops.
    `shared` is a directory in which processes that serve the same port find each other, to spread connections evenly.
    Raises `RuntimeError` when a port cannot be bound.
    """
    names = tuple(service.descriptor.full_name for service in router.services)
    state = health if health is not None else Health(names)
    extra = [health_service(state, roles=ALL_ROLES)]
    if settings.reflection:
        extra.extend(reflection_services([*names, extra[0].descriptor.full_name]))
    guard = Guard(router.plus(extra), verifier, guard_limits(settings), telemetry, trail, tickets=tickets)
    raise_descriptor_limit()
    budget = ByteBudget(settings.buffered_bytes)
    limits = listener_limits(settings)
    tls = credentials.build(minimum=settings.tls_minimum)
    listener = Listener(guard, limits, budget, tls, _identifier(verifier), shared=named(shared, "calls"))
    port = listener.listen(settings.host, settings.port)
    health_listener: Listener | None = None
    health_port: int | None = None
    if settings.health_port is not None:
        few = replace(guard_limits(settings), calls_in_flight=HEALTH_CALLS, streams_in_flight=HEALTH_CALLS)
        only_health = Guard(Router([health_service(state)]), None, few)
        health_listener = Listener(only_health, _of_health(limits), budget, None)
        try:
            health_port = health_listener.listen(settings.health_host, settings.health_port)
        except RuntimeError:
            await listener.stop(0)
            raise
    if health is None:
        state.set_serving(serving=True)
    _log.info("serving", host=settings.host, port=port, health_port=health_port, services=names)
    return RunningServer(port, health_port, state, guard, budget, listener, health_listener, trail)


def _of_health(limits: ListenerLimits) -> ListenerLimits:
    """Return the limits of the listener that answers health to anyone: what asks there asks little."""
    small = replace(
        limits.connection,
        request_bytes=_HEALTH_BYTES,
        streams=min(limits.connection.streams, HEALTH_STREAMS_PER_CONNECTION),
        idle=min(limits.connection.idle, _HEALTH_IDLE),
    )
    return replace(
        limits,
        connection=small,
        connections=min(limits.connections, HEALTH_CALLS),
        connections_per_address=min(limits.connections_per_address, HEALTH_CONNECTIONS_PER_ADDRESS),
    )


def named(directory: Path | None, listener: str) -> Shared | None:
    """Return where the processes of one listener find each other, if they are several."""
    return None if directory is None else Shared(directory, listener)


def _identifier(verifier: PeerVerifier) -> Callable[[bytes], str]:
    def identify(pem: bytes) -> str:
        try:
            return str(verifier.verify(pem).id)
        except KeyreeveError:
            return "unknown"

    return identify
