"""The port of an HTTP/2 engine, without I/O: one server connection, bytes in and bytes out."""

from collections.abc import Sequence
from enum import IntEnum
from typing import Protocol

from keyreeve_chassis.rpc.wire import Header

STREAM_WINDOW = 65535
"""Bytes that a peer may send on a stream before its caller is admitted (RFC 9113 6.9.2, the initial value)."""

CONNECTION_WINDOW = 2**31 - 1
"""So that no half-sent message can stop the other calls of its connection; streams and the budget bound the bytes."""
MOST_FIELDS = 256
HEADER_SLACK = 64 * 1024
"""Header lists beyond the limit by this much still get an answer; larger ones end the connection."""


class ErrorCode(IntEnum):
    """The codes of RST_STREAM and GOAWAY that this server sends (RFC 9113 7)."""

    NO_ERROR = 0x0
    REFUSED_STREAM = 0x7
    CANCEL = 0x8
    ENHANCE_YOUR_CALM = 0xB


class ConnectionBroken(Exception):
    """The peer has violated HTTP/2 or a limit of the engine: what is left to send says so, and nothing more is read."""


class Http2Events(Protocol):
    """What the engine reports while it takes in bytes or makes some."""

    def on_request(self, stream: int, headers: Sequence[Header], *, end: bool) -> None:
        """Headers that open a stream; `end`: nothing follows."""
        ...

    def on_data(self, stream: int, data: bytes, *, end: bool) -> None: ...

    def on_end(self, stream: int) -> None:
        """The peer has sent trailers: nothing follows."""
        ...

    def on_closed(self, stream: int) -> None:
        """A stream is over, reset or complete."""
        ...

    def on_reset(self, stream: int) -> None:
        """The peer has reset a stream."""
        ...

    def on_ping(self) -> None: ...

    def on_pong(self) -> None:
        """The peer has answered a ping."""
        ...

    def on_settings(self) -> None: ...

    def on_window(self) -> None:
        """The peer is ready for more."""
        ...


class Http2Connection(Protocol):
    """One server connection. Streams that are gone are passed over in silence."""

    def receive(self, data: bytes, events: Http2Events) -> None:
        """Take in bytes. Raises `ConnectionBroken`."""
        ...

    def output(self, events: Http2Events, most: int) -> bytes:
        """Return what is to be sent now, about `most` bytes of it. Raises `ConnectionBroken`."""
        ...

    def send_headers(self, stream: int, headers: Sequence[Header], *, end: bool = False) -> None: ...

    def send_data(self, stream: int, data: bytes, *, end: bool = False) -> None: ...

    def send_trailers(self, stream: int, headers: Sequence[Header]) -> None: ...

    def reset(self, stream: int, code: ErrorCode) -> None: ...

    def acknowledge(self, stream: int, count: int) -> None:
        """Let the peer send as much again, on the stream and on the connection."""
        ...

    def widen(self, stream: int, window: int) -> None:
        """Raise a stream's window."""
        ...

    def ping(self) -> None: ...

    def announce_goaway(self) -> None:
        """Tell the peer to open no more streams, without refusing those that are on their way."""
        ...

    def go_away(self, code: ErrorCode, reason: bytes = b"") -> None:
        """Take no more streams; with an error, end the connection once this is sent."""
        ...

    def unsent(self, stream: int | None = None) -> int:
        """Bytes of bodies that wait for the peer's window, of one stream or all."""
        ...

    @property
    def finished(self) -> bool:
        """Nothing more is read or sent."""
        ...

    @property
    def header_list_limit(self) -> int:
        """The largest header list that the peer accepts."""
        ...
