"""The metrics page: one small answer over HTTP/1, made at most once a second."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from email.utils import formatdate

from keyreeve_chassis.plain_http.bounded import BoundedListener, Bounds
from keyreeve_chassis.telemetry.metrics import render

BOUNDS = Bounds(connections=32, per_address=None, idle=10.0, stall=10.0)
_HEAD_BYTES = 8 * 1024
_HEAD_END = b"\r\n\r\n"
_REQUEST = re.compile(rb"(GET|HEAD) /metrics(?:\?[^ \r\n]*)? HTTP/1\.[01]\r\n")
_KEPT_SECONDS = 1.0
"""For how long a page is shown again: adding up the files of all processes takes some milliseconds."""


async def serve_metrics(host: str, port: int) -> tuple[int, Callable[[], Awaitable[None]]]:
    """Serve `/metrics`; return the port (chosen when `port` is 0) and what stops it. Raises `OSError`."""
    pages = _Pages()
    listener = BoundedListener(BOUNDS, lambda: _Connection(pages, listener))
    return await listener.listen(host, port), listener.stop


class _Pages:
    """Makes pages, one at a time, in one thread."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._made: asyncio.Task[tuple[str, bytes]] | None = None
        self._begun = 0.0

    async def latest(self) -> tuple[str, bytes]:
        """Return content type and text of a page that is at most a second old."""
        now = self._loop.time()
        if self._made is None or (self._made.done() and now - self._begun > _KEPT_SECONDS):
            self._begun = now
            self._made = asyncio.create_task(asyncio.to_thread(render))
        return await asyncio.shield(self._made)


class _Connection(asyncio.Protocol):
    """Reads one request, answers it, and ends."""

    def __init__(self, pages: _Pages, listener: BoundedListener) -> None:
        self._pages = pages
        self._listener = listener
        self._head = b""
        self._transport: asyncio.Transport | None = None
        self._answering: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        if self._answering is not None or self._transport is None:
            return
        self._head += data
        if _HEAD_END not in self._head and len(self._head) <= _HEAD_BYTES:
            return
        self._transport.pause_reading()
        self._answering = asyncio.create_task(self._answer(self._transport))

    def connection_lost(self, _: Exception | None) -> None:
        self._transport = None
        if self._answering is not None:
            self._answering.cancel()

    async def _answer(self, transport: asyncio.Transport) -> None:
        asked = _REQUEST.match(self._head) if _HEAD_END in self._head else None
        status, kind, body = "404 Not Found", "text/plain", b"only GET /metrics\n"
        if asked:
            with self._listener.busy(transport):
                status, (kind, body) = "200 OK", await self._pages.latest()
        fields = (f"Date: {formatdate(usegmt=True)}", f"Content-Type: {kind}", f"Content-Length: {len(body)}")
        head = "\r\n".join((f"HTTP/1.1 {status}", *fields, "Connection: close", "", ""))
        transport.write(head.encode() + (b"" if asked and asked[1] == b"HEAD" else body))
        transport.close()
