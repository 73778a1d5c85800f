"""The solo process of a service: coordinator and worker in one, with or without a database."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol, TypeVar

from keyreeve_chassis.audit.recording import Recorder
from keyreeve_chassis.audit.trail import Trail
from keyreeve_chassis.guard.peers import PeerVerifier
from keyreeve_chassis.guard.router import Router
from keyreeve_chassis.identity.opening import open_service_identity
from keyreeve_chassis.local_admin.findings import Finding
from keyreeve_chassis.local_admin.socket import serve_local_admin
from keyreeve_chassis.plain_http.metrics_page import serve_metrics
from keyreeve_chassis.processes.ipc import Connection, Handler
from keyreeve_chassis.processes.lifecycle import private_directory, run_tasks, say_ready, system_clock, until_told
from keyreeve_chassis.rpc.server import start_server
from keyreeve_chassis.service import Jobs, OpenStorage, ProcessIdentity, Role, ServiceContext, ServiceSpec, Storage
from keyreeve_chassis.settings.sections import ServerSettings
from keyreeve_chassis.telemetry.process import call_telemetry
from keyreeve_chassis.tickets.verification import TicketVerifier
from keyreeve_chassis.tls import LiveServerCredentials, ServerIdentity

S = TypeVar("S", bound=ServerSettings)


class Identity(ProcessIdentity, Protocol):
    """This process's identity and trust, kept current by `jobs`."""

    def server_identity(self) -> ServerIdentity:
        """The current serving certificate."""
        ...

    def jobs(self) -> Jobs: ...


OpenIdentity = Callable[[str, S, Callable[[], int]], AbstractAsyncContextManager[Identity]]
"""Enrolls, or reads what an earlier enrollment left: told the service's name, its settings and the clock."""


@dataclass(frozen=True)
class RunningService:
    """A running solo process."""

    port: int
    health_port: int | None
    background: Awaitable[None]
    """Resolves only by failing: when a background job has."""
    router: Router
    """What it serves, beside health and reflection."""


class NoStorage:
    """The `Storage` of a service without a database."""

    @asynccontextmanager
    async def open(
        self,
        settings: S,
        *,
        now: Callable[[], int],
        process: str,  # noqa: ARG002 - as in `Storage`
    ) -> AsyncIterator[OpenStorage[S]]:
        """Return an `OpenStorage` without a database."""
        yield OpenStorage(ServiceContext(settings, now))


def solo_role(storage: Storage[S], open_identity: OpenIdentity[S] = open_service_identity) -> Role[S]:
    """The one role of a service that is a single process."""

    async def run(spec: ServiceSpec[S, Any], settings: S, _index: int) -> None:
        async with run_solo(spec, settings, storage, open_identity) as running:
            say_ready()
            await until_told(running.background, settings.drain_seconds, managed=False)

    return Role("solo", run)


@asynccontextmanager
async def run_solo(
    spec: ServiceSpec[S, Any],
    settings: S,
    storage: Storage[S],
    open_identity: OpenIdentity[S] = open_service_identity,
    *,
    now: Callable[[], int] = system_clock,
) -> AsyncIterator[RunningService]:
    """Run a service; leaving the context drains it. Raises `StartRefused`.

    `now` is the clock, in seconds since 1970.
    """
    private_directory(settings.state_directory)
    private_directory(settings.run_directory)
    async with AsyncExitStack() as stack:
        process = f"{settings.instance}/solo/{uuid.uuid4()}"
        opened = await stack.enter_async_context(storage.open(settings, now=now, process=process))
        identity = await stack.enter_async_context(open_identity(spec.name, settings, now))
        trail = None if opened.record is None else Trail(Recorder(opened.record), gate=opened.gate)
        context = replace(opened.context, process_identity=identity)
        services = [*spec.routers(context), *opened.services]
        background = run_tasks(stack, [*opened.jobs, *identity.jobs(), *spec.jobs(context)])
        router = Router(services, Router(services).invoke)
        running = await start_server(
            settings.listen,
            router,
            PeerVerifier(identity.trust_view, now, identity.revocations),
            LiveServerCredentials(identity.server_identity),
            telemetry=call_telemetry(spec.name, settings, stack),
            trail=trail,
            tickets=TicketVerifier(spec.name, identity.trust_view, now, identity.revocations),
        )
        stack.push_async_callback(running.stop, settings.drain_seconds)
        handlers: dict[str, Handler] = {"check": partial(_check, spec.look, settings), **opened.local_handlers}
        stack.push_async_callback((await serve_local_admin(settings.coordinator_socket, handlers)).close)
        if settings.metrics.port is not None:
            _, stop_metrics = await serve_metrics(settings.metrics.host, settings.metrics.port)
            stack.push_async_callback(stop_metrics)
        yield RunningService(running.port, running.health_port, background, router)


async def _check(
    look: Callable[[S], Sequence[Finding]], settings: S, _payload: object, _connection: Connection
) -> list[dict[str, Any]]:
    return [finding.as_dict() for finding in await asyncio.to_thread(look, settings)]
