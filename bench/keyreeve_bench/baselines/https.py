"""Calls to a baseline: POST over HTTP/1.1 (RFC 9112) with mutual TLS, one open connection per caller."""

import asyncio
import itertools
import json
import ssl
from pathlib import Path

from keyreeve import errors
from keyreeve_bench.calling import Answer

_NOTHING = b"00" * 16


class HttpsCalls:
    """Posts the bodies in rotation."""

    def __init__(self, orders: Path, bodies: list[bytes], *, timeout: float) -> None:
        told = json.loads(orders.read_bytes())
        self._port: int = told["port"]
        self._success = told["success"].encode()
        self._head = (
            f"POST {told['path']} HTTP/1.1\r\nHost: localhost:{self._port}\r\nContent-Type: application/json\r\n"
        )
        self._bodies = itertools.cycle(bodies)
        self._timeout = timeout
        self._tls = ssl.create_default_context(cafile=told["roots"])
        if told["certificate"]:
            self._tls.load_cert_chain(told["certificate"], told["key"])
        self._connections: dict[int, tuple[asyncio.StreamReader, asyncio.StreamWriter]] = {}

    async def connect(self) -> None:
        await self._open(0)

    def take(self) -> bytes:
        return next(self._bodies)

    async def call(self, index: int, request: bytes, request_id: str) -> Answer:  # noqa: ARG002  # HTTP has none
        if index not in self._connections:
            await self._open(index)
        reader, writer = self._connections[index]
        try:
            async with asyncio.timeout(self._timeout):
                writer.write(f"{self._head}Content-Length: {len(request)}\r\n\r\n".encode() + request)
                status, answer = await _read(reader)
        except TimeoutError:
            self._drop(index)
            raise errors.DeadlinePassed("the baseline did not answer in time") from None
        except (OSError, EOFError, ValueError) as failure:
            self._drop(index)
            raise errors.ServiceUnreachable(f"the baseline closed the connection: {failure}") from None
        if status not in {200, 201} or self._success not in answer:
            code = "RESOURCE_EXHAUSTED" if status == 429 else "UNKNOWN"
            raise errors.from_reason(f"HTTP_{status}", answer[:200].decode(errors="replace"), code=code)
        return Answer([_NOTHING], [], b"", [])

    async def close(self) -> None:
        for index in tuple(self._connections):
            self._drop(index)

    async def _open(self, index: int) -> None:
        try:
            self._connections[index] = await asyncio.open_connection(
                "127.0.0.1", self._port, ssl=self._tls, server_hostname="localhost"
            )
        except OSError as failure:
            raise errors.ServiceUnreachable(f"no connection to the baseline: {failure}") from None

    def _drop(self, index: int) -> None:
        self._connections.pop(index)[1].close()


async def _read(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """Read status and body of a response. Raises `EOFError`, or `ValueError` when it is not HTTP."""
    lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    status = int(lines[0].split(" ", 2)[1])
    fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
    if fields.get("transfer-encoding", "").lower() != "chunked":
        return status, await reader.readexactly(int(fields["content-length"]))
    body = b""
    while size := int((await reader.readline()).partition(b";")[0], 16):
        body += (await reader.readexactly(size + 2))[:-2]
    await reader.readuntil(b"\r\n")
    return status, body
