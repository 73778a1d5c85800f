"""A listener for those who have no certificate yet: TLS, no client certificates, and only what is open to anyone."""

from dataclasses import dataclass, replace
from pathlib import Path

import structlog

from keyreeve_chassis.audit.trail import Trail
from keyreeve_chassis.guard.guard import Guard
from keyreeve_chassis.guard.router import Router
from keyreeve_chassis.rpc.limits import ByteBudget
from keyreeve_chassis.rpc.listener import Listener, raise_descriptor_limit
from keyreeve_chassis.rpc.server import guard_limits, listener_limits, named
from keyreeve_chassis.settings.serving import ServingSettings
from keyreeve_chassis.telemetry.calls import CallTelemetry
from keyreeve_chassis.tls import LiveServerCredentials

_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class OpenServer:
    """A listener that accepts calls until `stop`."""

    port: int
    guard: Guard
    _listener: Listener

    async def stop(self, grace: float) -> None:
        """Take no new calls, end what is open, and stop within `grace` seconds."""
        self.guard.stop()
        await self._listener.stop(grace)


async def start_open_server(
    settings: ServingSettings,
    router: Router,
    credentials: LiveServerCredentials,
    *,
    most_connections: int,
    budget: ByteBudget,
    telemetry: CallTelemetry | None = None,
    trail: Trail | None = None,
    shared: Path | None = None,
) -> OpenServer:
    """Listen and serve `router` and nothing else: no health, no reflection. Raises `RuntimeError` for a port in use.

    `budget` is the process's. `shared` is a directory in which processes that serve the same port find each other.
    Raises `ValueError` when a method of the router is not open to anyone: no caller could use it here.
    """
    closed = sorted(name for name, row in router.rows.items() if not row.anyone)
    if closed:
        raise ValueError(f"not open to anyone: {', '.join(closed)}")
    guard = Guard(router, None, guard_limits(settings), telemetry, trail)
    raise_descriptor_limit()
    limits = replace(listener_limits(settings), connections=most_connections)
    tls = credentials.build(ask_for_certificates=False)
    listener = Listener(guard, limits, budget, tls, shared=named(shared, "enroll"))
    port = listener.listen(settings.host, settings.port)
    _log.info("serving enrollees", host=settings.host, port=port)
    return OpenServer(port, guard, listener)
