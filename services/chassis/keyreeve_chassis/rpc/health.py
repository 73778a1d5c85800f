"""grpc.health.v1: whether this process serves, for probes (on a plaintext listener of its own) and for clients."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

from grpc_health.v1 import health_pb2

from keyreeve.errors import HealthServiceUnknown
from keyreeve.identity import Role
from keyreeve_chassis.guard.access import AccessRule, Freshness
from keyreeve_chassis.guard.call import Call
from keyreeve_chassis.guard.router import ServedService

_SERVICE = health_pb2.DESCRIPTOR.services_by_name["Health"]
_Status = health_pb2.HealthCheckResponse


class Health:
    """The state that probes see. The empty name stands for the whole process; it starts as NOT_SERVING."""

    def __init__(self, services: tuple[str, ...] = ()) -> None:
        """Take the full names of the services that answer to their own name too."""
        self.known = frozenset({"", *services})
        """The names that have a status."""
        self._serving = False
        self._closed = False
        self._changed = asyncio.Event()

    @property
    def serving(self) -> bool:
        """Whether the process accepts calls."""
        return self._serving

    def set_serving(self, *, serving: bool) -> None:
        """Change the state; after `close` it stays NOT_SERVING."""
        self._serving = serving and not self._closed
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def close(self) -> None:
        """Say NOT_SERVING from now on."""
        self._closed = True
        self.set_serving(serving=False)

    def status(self, service: str) -> int:
        """Return the number of the status of one service."""
        if service not in self.known:
            return int(_Status.SERVICE_UNKNOWN)
        return int(_Status.SERVING if self._serving else _Status.NOT_SERVING)

    async def changed(self) -> None:
        """Return when the state was set again."""
        await self._changed.wait()


class HealthServicer:
    """Answers grpc.health.v1.Health from a `Health`."""

    def __init__(self, health: Health) -> None:
        """Take the state to report."""
        self._health = health

    async def Check(self, request: health_pb2.HealthCheckRequest, call: Call) -> health_pb2.HealthCheckResponse:  # noqa: ARG002, N802
        """Return the present status."""
        status = self._health.status(request.service)
        if status == _Status.SERVICE_UNKNOWN:
            raise HealthServiceUnknown(f"{request.service!r} is not served here")
        return _Status(status=status)

    async def List(self, request: health_pb2.HealthListRequest, call: Call) -> health_pb2.HealthListResponse:  # noqa: ARG002, N802
        """Return the status of the process and of each of its services."""
        return health_pb2.HealthListResponse(
            statuses={name: _Status(status=self._health.status(name)) for name in sorted(self._health.known)}
        )

    async def Watch(  # noqa: N802
        self,
        request: health_pb2.HealthCheckRequest,
        call: Call,  # noqa: ARG002
    ) -> AsyncIterator[health_pb2.HealthCheckResponse]:
        """Return the present status and each later one."""
        last: int | None = None
        while True:
            status = self._health.status(request.service)
            if status != last:
                last = status
                yield _Status(status=status)
            else:
                await self._health.changed()


def health_service(health: Health, *, roles: frozenset[Role] | None = None) -> ServedService:
    """Return the health service for callers of these roles; None: for probes, which have no identity.

    It answers a known caller however old the knowledge of revocations is, so that an outage can be told apart.
    """
    prefix = f"/{_SERVICE.full_name}/"
    rule = AccessRule(roles or frozenset(), anyone=roles is None, freshness=Freshness.EXEMPT, unrecorded=True)
    rows = {
        f"{prefix}Check": rule,
        f"{prefix}List": rule,
        f"{prefix}Watch": replace(rule, long_stream=True),
    }
    return ServedService(_SERVICE, HealthServicer(health), rows, strict=False)
