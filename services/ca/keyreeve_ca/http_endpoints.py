"""The plain-HTTP listener for relying parties. Everything it serves is signed.

`/crl/{authority}/{shard}.crl`, `/crl/{authority}.crl` (all shards in one), `/ca/{authority}.crt` (all DER),
`/bundle.pem` and `/estate-bundle.pem` (roots), and
`/ocsp` (RFC 6960, A.1). It has no TLS, because checking a TLS server's certificate must not need one (RFC 5280, section
8).
"""

import asyncio
import base64
import binascii
import hashlib
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from email.utils import formatdate

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from keyreeve.errors import StoreUnavailable, TooManyInFlight
from keyreeve.values import AuthorityState, Hierarchy
from keyreeve_ca.issuance.snapshot import IssuanceSnapshot
from keyreeve_ca.ocsp.responder import OcspResponder
from keyreeve_ca.operators.first_operator import roots_pem
from keyreeve_ca.revocation.ports import FULL_LIST
from keyreeve_ca.revocation.scopes import list_to_publish
from keyreeve_ca.store.ports import Store
from keyreeve_chassis.guard.admission import PerAddress
from keyreeve_chassis.plain_http.bounded import BoundedListener, Bounds
from keyreeve_chassis.settings.sections import HttpSettings
from keyreeve_chassis.token_bucket import TokenBucket

log = logging.getLogger(__name__)

IN_FLIGHT = 128
"""Requests at once; more are told to come back."""
REQUESTS_PER_SECOND = 400.0
"""Of all addresses for long: what signs shares its processors with them."""
REQUESTS_AT_ONCE = 800
REQUEST_SECONDS = 10.0
REFUSAL_SECONDS = 1.0
"""Before a refusal for load: who repeats at once has this rate for each connection."""
IDLE_SECONDS = 15.0
"""For a request to arrive, and between two of them."""
STALL_SECONDS = 60.0
"""For an answer to be taken; a list of revocations may have some megabytes."""
_REQUEST_BYTES = 64 * 1024
_OCSP_BYTES = 4096
"""Largest OCSP request that is read; one about a single certificate has about a hundred bytes."""
STATUSES_PER_SECOND = 200.0
"""OCSP requests of one address; a proxy that caches is one address with few of them."""
STATUSES_AT_ONCE = 400
_LIST_AGE = 60
"""Seconds for which caches may answer with a list: a new revocation is seen after that at the latest."""
_CERTIFICATE_AGE = 3600


@dataclass
class PlainHttp:
    """Serves the store and the snapshot. Not frozen: it counts its requests."""

    store: Store
    snapshot: Callable[[], IssuanceSnapshot]
    ocsp: OcspResponder
    now: Callable[[], int]
    busy: Callable[[asyncio.BaseTransport | None], AbstractContextManager[None]] = lambda _: nullcontext()
    """Says of a connection that a request on it is in progress."""
    statuses: PerAddress = field(default_factory=lambda: PerAddress(32, STATUSES_PER_SECOND, STATUSES_AT_ONCE))
    """OCSP requests of each address."""
    _requests: TokenBucket = field(
        default_factory=lambda: TokenBucket(REQUESTS_AT_ONCE, REQUESTS_PER_SECOND, time.monotonic())
    )
    _in_flight: int = 0

    def application(self) -> web.Application:
        """Build the routes, behind the limits."""
        app = web.Application(client_max_size=_REQUEST_BYTES, middlewares=[self._limits()])
        app.router.add_get(r"/crl/{authority:[a-z0-9-]{1,63}}/{shard:\d{1,9}}.crl", self._list)
        app.router.add_get(r"/crl/{authority:[a-z0-9-]{1,63}}.crl", self._list)
        app.router.add_get(r"/ca/{authority:[a-z0-9-]{1,63}}.crt", self._certificate)
        app.router.add_get("/ocsp/{request:.+}", self._asked_by_get)
        app.router.add_post("/ocsp", self._asked_by_post)
        app.router.add_get("/bundle.pem", self._bundle(Hierarchy.CONTROL))
        app.router.add_get("/estate-bundle.pem", self._bundle(Hierarchy.ESTATE))
        return app

    def _limits(self) -> Middleware:
        @web.middleware
        async def limit(request: web.Request, handler: Handler) -> web.StreamResponse:
            try:
                return await self._admitted(request, handler)
            except TooManyInFlight:
                refusal = web.Response(status=429, headers={"Retry-After": "1"})
            except (TimeoutError, StoreUnavailable):
                refusal = web.Response(status=503, headers={"Retry-After": "1"})
            except web.HTTPException:
                raise
            except Exception:
                log.exception("a request failed")
                refusal = web.Response(status=500)
            await asyncio.sleep(REFUSAL_SECONDS)
            return refusal

        return limit

    async def _admitted(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Handle a request. Raises `TooManyInFlight`, `StoreUnavailable`, and `TimeoutError` when it takes too long."""
        if self._in_flight >= IN_FLIGHT or not self._requests.take(time.monotonic()):
            raise TimeoutError
        self._in_flight += 1
        try:
            with self.busy(request.transport):
                async with asyncio.timeout(REQUEST_SECONDS):
                    return await handler(request)
        finally:
            self._in_flight -= 1

    async def _list(self, request: web.Request) -> web.Response:
        authority, number = request.match_info["authority"], int(request.match_info.get("shard", FULL_LIST))
        shard = list_to_publish(self.snapshot().authorities.get(authority), (authority, number))
        found = await self.store.read(lambda tx: tx.revocations.published_list(shard))
        if found is None:
            raise web.HTTPNotFound
        state = found.state
        age = max(0, min(_LIST_AGE, state.next_update - self.now()))
        headers = {
            "Last-Modified": formatdate(state.this_update, usegmt=True),
            "Expires": formatdate(self.now() + age, usegmt=True),
        }
        return _answer(request, found.der, "application/pkix-crl", age, headers)

    async def _asked_by_get(self, request: web.Request) -> web.Response:
        """Read an OCSP request from the path: base64, percent-escaped (RFC 6960, A.1)."""
        text = request.match_info["request"]
        try:
            if len(text) > _OCSP_BYTES * 4 // 3 + 4:
                raise binascii.Error  # noqa: TRY301  # too long is as good as malformed
            asked = base64.b64decode(text, validate=True)
        except binascii.Error:
            asked = b""
        return await self._status(request, asked)

    async def _asked_by_post(self, request: web.Request) -> web.Response:
        if request.content_type != "application/ocsp-request":
            raise web.HTTPUnsupportedMediaType
        body = await request.read()
        return await self._status(request, b"" if len(body) > _OCSP_BYTES else body)

    async def _status(self, request: web.Request, asked: bytes) -> web.Response:
        with self.statuses.admit(f"ipv4:{request.remote or ''}:0"):
            answer = await self.ocsp.answer(asked)
        if answer.cacheable and request.method != "POST":
            return _answer(request, answer.der, "application/ocsp-response", _LIST_AGE)
        return web.Response(
            body=answer.der, content_type="application/ocsp-response", headers={"Cache-Control": "no-store"}
        )

    async def _certificate(self, request: web.Request) -> web.Response:
        authority = self.snapshot().authorities.get(request.match_info["authority"])
        if authority is None or authority.state is AuthorityState.PENDING:
            raise web.HTTPNotFound
        return _answer(request, authority.certificate_der, "application/pkix-cert", _CERTIFICATE_AGE)

    def _bundle(self, hierarchy: Hierarchy) -> Handler:
        async def bundle(request: web.Request) -> web.Response:
            return _answer(request, roots_pem(self.snapshot(), hierarchy), "application/x-pem-file", _LIST_AGE)

        return bundle


def _answer(
    request: web.Request, body: bytes, kind: str, age: int, headers: dict[str, str] | None = None
) -> web.Response:
    """Build a cacheable response, or 304 when the client has it."""
    tag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    every = {"ETag": tag, "Cache-Control": f"public, max-age={age}", "X-Content-Type-Options": "nosniff"}
    every |= headers or {}
    if tag in {one.strip().removeprefix("W/") for one in request.headers.get("If-None-Match", "").split(",")}:
        return web.Response(status=304, headers=every)
    return web.Response(body=body, content_type=kind, headers=every)


async def serve_plain_http(http: PlainHttp, settings: HttpSettings) -> tuple[int, Callable[[], Awaitable[None]]]:
    """Listen; return the port and how to stop. Raises `OSError` when the address cannot be bound."""
    assert settings.port is not None, "there is a listener"
    bounds = Bounds(settings.connections, settings.connections_per_address, IDLE_SECONDS, STALL_SECONDS)

    def accept() -> asyncio.Protocol:
        server = runner.server
        assert server is not None, "it is set up"
        return server()

    listener = BoundedListener(bounds, accept)
    app = replace(http, busy=listener.busy).application()
    runner = web.AppRunner(app, access_log=None, keepalive_timeout=IDLE_SECONDS, shutdown_timeout=1.0)
    await runner.setup()
    port = await listener.listen(settings.host, settings.port)

    async def stop() -> None:
        await listener.stop()
        await runner.cleanup()

    return port, stop
