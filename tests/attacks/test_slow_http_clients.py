"""Slow clients of the plain listeners: they take a bounded number of connections and no threads, and lock nobody out."""

import asyncio
import threading
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from keyreeve_ca.http_endpoints import PlainHttp, serve_plain_http
from keyreeve_chassis.plain_http import metrics_page
from keyreeve_chassis.plain_http.bounded import BoundedListener, Bounds
from keyreeve_chassis.plain_http.metrics_page import serve_metrics
from keyreeve_chassis.settings.sections import HttpSettings
from support.waiting import wait_until

SLOW = 1_500


@asynccontextmanager
async def slow_clients(port: int, count: int, said: bytes) -> AsyncIterator[list[asyncio.StreamReader]]:
    """Connections that have sent a part of a request."""
    readers, writers = [], []
    for _ in range(count):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(said)
        readers.append(reader)
        writers.append(writer)
    try:
        yield readers
    finally:
        for writer in writers:
            writer.transport.abort()


def fetched(port: int) -> bytes:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=20) as page:
        body: bytes = page.read()
    return body


def still_open(readers: list[asyncio.StreamReader]) -> int:
    """How many the server has not ended."""
    return sum(not (reader.at_eof() or reader.exception()) for reader in readers)


async def test_slow_clients_of_metrics_take_a_few_connections_and_no_threads() -> None:
    port, stop = await serve_metrics("127.0.0.1", 0)
    threads = threading.active_count()
    async with slow_clients(port, SLOW, b"GET /metrics HTTP/1.1\r\n") as readers:
        assert b"python_info" in await asyncio.to_thread(fetched, port)
        assert threading.active_count() <= threads + 2
        await wait_until("the others are closed", lambda: still_open(readers) <= metrics_page.BOUNDS.connections, 20)
    await stop()


async def test_slow_clients_of_the_listener_of_crls_and_ocsp_take_the_share_of_their_address_and_lock_nobody_out() -> (
    None
):
    unused: Any = None
    share = 16
    settings = HttpSettings(port=0, connections=4 * share, connections_per_address=share)
    port, stop = await serve_plain_http(PlainHttp(unused, unused, unused, unused), settings)
    threads = threading.active_count()
    half = b"POST /ocsp HTTP/1.1\r\nHost: ca\r\nContent-Length: 100\r\n\r\nhalf"
    async with slow_clients(port, 10 * share, half) as readers:
        await wait_until("the others are closed", lambda: still_open(readers) <= share, 20)
        reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=("127.0.0.2", 0))
        writer.write(b"GET /nothing HTTP/1.1\r\nHost: ca\r\n\r\n")
        async with asyncio.timeout(20):
            assert (await reader.readline()).startswith(b"HTTP/1.1 404 ")
        writer.close()
        assert still_open(readers) == share
        assert threading.active_count() <= threads + 1
    await stop()


async def test_a_connection_without_a_whole_request_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics_page, "BOUNDS", replace(metrics_page.BOUNDS, idle=0.1))
    port, stop = await serve_metrics("127.0.0.1", 0)
    async with slow_clients(port, 3, b"GET /metr") as readers:
        async with asyncio.timeout(20):
            await asyncio.gather(*(reader.read() for reader in readers), return_exceptions=True)
        assert still_open(readers) == 0
    await stop()


async def test_one_address_takes_its_share_of_connections_and_no_more() -> None:
    listener = BoundedListener(Bounds(connections=8, per_address=4, idle=60, stall=60), asyncio.Protocol)
    port = await listener.listen("127.0.0.1", 0)
    async with slow_clients(port, 20, b"") as readers:
        await wait_until("the others are closed", lambda: still_open(readers) <= 4, 20)
        _, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=("127.0.0.2", 0))
        await wait_until("it is admitted", lambda: listener.connections == 5, 20)
        assert still_open(readers) == 4
        writer.close()
    await listener.stop()
