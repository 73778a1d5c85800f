"""A client of HTTP/2 that sends what it likes to a `GrpcConnection`, in memory, with a time that the test sets."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

from ngh2 import Configuration, Connection, Role
from ngh2.events import (
    ConnectionClosed,
    DataReceived,
    GoAwayReceived,
    ResponseReceived,
    StreamReset,
    TrailersReceived,
)
from ngh2.exceptions import NGH2Error

from keyreeve.errors import AccessDenied, KeyreeveError
from keyreeve_chassis.guard.failures import Refusal
from keyreeve_chassis.guard.route import Route
from keyreeve_chassis.guard.router import Kind
from keyreeve_chassis.rpc import wire
from keyreeve_chassis.rpc.connection import GrpcConnection
from keyreeve_chassis.rpc.http2.engines import Engine, h2_engine, ngh2_engine
from keyreeve_chassis.rpc.limits import ByteBudget, Conduct, ConnectionLimits, Standing
from keyreeve_chassis.rpc.stream import Stream

LIMITS = ConnectionLimits(
    request_bytes=2 * 1024 * 1024,
    metadata_bytes=16 * 1024,
    streams=100,
    resets_burst=50,
    resets_per_second=10,
    refusals_burst=50,
    refusals_per_second=10,
    preface_timeout=10,
    message_timeout=10,
    stall_timeout=60,
    age=1800,
    grace=60,
    idle=300,
    keepalive_interval=60,
    keepalive_timeout=20,
    ping_interval=10,
)
ENGINES = (ngh2_engine(), h2_engine())
"""Both: where `ngh2` has no wheel, tests fail to load instead of testing `h2` twice."""
UNARY, BIDI, CLOSED = "/t.S/Unary", "/t.S/Bidi", "/t.S/Closed"


async def _none(*_: Any) -> Refusal | None:
    return None


@dataclass
class ScriptedCalls:
    """Runs no call by itself: keeps what it was asked."""

    started: list[tuple[Stream, bytes | None]] = field(default_factory=list)
    refused: list[Stream] = field(default_factory=list)
    cancelled: list[Stream] = field(default_factory=list)
    woken: list[Stream] = field(default_factory=list)

    def route(self, path: str) -> Route:
        serve: Callable[..., Awaitable[Any]] = _none
        kind = Kind.BIDI_STREAM if path == BIDI else Kind.UNARY
        return Route(kind, serve, serve, lambda _: AccessDenied("no") if path == CLOSED else None, serve)

    def check(self, stream: Stream) -> KeyreeveError | None:
        return stream.route.check(None)  # type: ignore[arg-type]

    def start(self, stream: Stream, request: bytes | None) -> None:
        self.started.append((stream, request))

    def refuse(self, stream: Stream, error: KeyreeveError) -> None:
        self.refused.append(stream)

    def wake(self, stream: Stream) -> None:
        self.woken.append(stream)

    def cancel(self, stream: Stream) -> None:
        self.cancelled.append(stream)

    def schedule(self) -> None:
        """The test carries bytes when it likes."""


class Http2Peer:
    """Both ends: the connection under test as `connection`, and a client."""

    engine: ClassVar[Engine] = ENGINES[0]
    """Of the connection under test."""

    def __init__(
        self,
        *,
        budget: ByteBudget | None = None,
        limits: ConnectionLimits = LIMITS,
        window: int = 65535,
        calls: Any = None,
        standing: Standing | None = None,
    ):
        self.now = 1000.0
        self.calls: Any = calls or ScriptedCalls()
        self.budget = budget or ByteBudget(1 << 30)
        made = self.engine.connection(
            streams=limits.streams,
            header_bytes=limits.metadata_bytes,
            resets=(limits.resets_burst * 10, limits.resets_per_second * 10),
        )
        self.connection = GrpcConnection(made, Conduct(limits, self.now, standing), self.budget, self.calls, self.now)
        self.client = Connection(Role.CLIENT, Configuration(auto_window_update=False))
        self.client.initiate_connection({4: window})
        self.events: list[Any] = []
        self.bytes = bytearray()
        self.exchange()

    @property
    def open_calls(self) -> int:
        """Calls that are on the wire or still run."""
        return len(self.connection._streams)

    def exchange(self) -> None:
        """Carry bytes both ways until there are none."""
        while True:
            there = self.client.data_to_send()
            if there:
                self.connection.receive(there, self.now)
            back = b""
            while more := self.connection.output(self.now):
                back += more
            if back:
                self.bytes += back
                try:
                    self.client.receive_data(back)
                except NGH2Error as over:
                    self.events.append(over)
                self.events.extend(self.client.events())
            if not there and not back:
                return

    def send(self, data: bytes) -> None:
        """Send bytes that the client knows nothing of."""
        self.connection.receive(data, self.now)
        self.exchange()

    def call(self, path: str, *messages: bytes, end: bool = True, raw: bytes = b"") -> int:
        """Open a call."""
        headers = [
            (b":method", b"POST"),
            (b":scheme", b"http"),
            (b":path", path.encode()),
            (b":authority", b"x"),
            (b"content-type", b"application/grpc"),
            (b"te", b"trailers"),
        ]
        stream = self.client.send_request(headers)
        self.client.send_data(stream, b"".join(wire.frame(one) for one in messages) + raw, end_stream=end)
        self.exchange()
        return stream

    def later(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds
        self.connection.tick(self.now)
        self.exchange()

    def status(self, stream: int) -> int | None:
        """The gRPC status of a call, once it has come."""
        for event in self.events:
            if isinstance(event, ResponseReceived | TrailersReceived) and event.stream_id == stream:
                found = {name: value for name, value, *_ in event.headers}
                if b"grpc-status" in found:
                    return int(found[b"grpc-status"])
        return None

    def received(self, stream: int) -> bytes:
        """The body of an answer."""
        return b"".join(one.data for one in self.events if isinstance(one, DataReceived) and one.stream_id == stream)

    def reset_code(self, stream: int) -> int | None:
        """With what a call was reset."""
        found = [one for one in self.events if isinstance(one, StreamReset) and one.stream_id == stream]
        return found[0].error_code if found else None

    def goodbye(self) -> bytes | None:
        """The reason in the last GOAWAY."""
        found = [one for one in self.events if isinstance(one, GoAwayReceived | ConnectionClosed)]
        return bytes(found[-1].debug_data) if found else None
