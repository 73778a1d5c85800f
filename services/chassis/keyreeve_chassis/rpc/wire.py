"""gRPC over HTTP/2 as its protocol document says: headers, length-prefixed messages, trailers. No I/O.

https://github.com/grpc/grpc (doc/PROTOCOL-HTTP2.md)
"""

import base64
import binascii
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

Header = tuple[bytes, bytes]
Metadata = tuple[tuple[str, str | bytes], ...]

OK: Final = 0
CANCELLED: Final = 1
UNKNOWN: Final = 2
DEADLINE_EXCEEDED: Final = 4
NOT_FOUND: Final = 5
RESOURCE_EXHAUSTED: Final = 8
UNIMPLEMENTED: Final = 12
INTERNAL: Final = 13
UNAVAILABLE: Final = 14
FAULTS_OF_THE_CALLER: Final = frozenset({3, 7, UNIMPLEMENTED, 16})
"""INVALID_ARGUMENT, PERMISSION_DENIED, UNIMPLEMENTED, UNAUTHENTICATED: what a caller is refused whatever the service's load."""

PREFIX_BYTES: Final = 5
"""A message's prefix: one byte that says whether it is compressed, four with its length."""
_PART_BYTES: Final = 16 * 1024
"""Of an unfinished message, kept apart: an engine hands over no more at once, and what is smaller is put together."""
FIELD_OVERHEAD: Final = 32
"""What a header field counts beyond its name and value (RFC 9113 6.5.2)."""
RESPONSE: Final[tuple[Header, ...]] = (
    (b":status", b"200"),
    (b"content-type", b"application/grpc"),
    (b"grpc-accept-encoding", b"identity"),
)
PLAIN_TEXT: Final[tuple[Header, ...]] = ((b"content-type", b"text/plain; charset=utf-8"),)
SUCCESS: Final[tuple[Header, ...]] = ((b"grpc-status", b"0"),)

_KNOWN = (b":method", b":path", b"content-type", b"grpc-encoding", b"grpc-timeout")
_UNITS = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}
_KEY = re.compile(rb"[0-9a-z_.-]+\Z")
_VALUE = re.compile(rb"[\x20-\x7e]*\Z")
_PLAIN = re.compile(r"[ -$&-~]*\Z")  # what percent-encoding leaves as it is
_MAX_MESSAGE_BYTES = 2048
"""Of an error's text on the wire."""


class WireError(Exception):
    """A violation of the protocol within one call, with the gRPC status that answers it."""

    def __init__(self, code: int, message: str, http_status: bytes | None = None) -> None:
        """Take the status; with `http_status` the answer is not one of gRPC, since the request was none."""
        super().__init__(message)
        self.code = code
        self.message = message
        self.http_status = http_status


@dataclass(frozen=True, slots=True)
class RequestHead:
    """What the headers of a call say."""

    path: str
    timeout: float | None
    """Seconds; None: the call has no deadline."""
    metadata: Metadata
    size: int
    """Bytes of all header fields (RFC 9113 6.5.2)."""


def read_request(headers: Sequence[Header], most_bytes: int) -> RequestHead:
    """Read the headers of a call. Raises `WireError`."""
    found = dict.fromkeys(_KNOWN, b"")
    metadata: list[tuple[str, str | bytes]] = []
    size = 0
    for header in headers:
        name, value = header[0], header[1]
        size += len(name) + len(value) + FIELD_OVERHEAD
        if name in found:
            found[name] = value
        elif name[:5] != b"grpc-" and name[:1] != b":" and name != b"te":
            metadata.extend(_metadata(name, value))
    size += FIELD_OVERHEAD * max(0, len(metadata) - len(headers))  # values that were joined
    method, path, content_type, encoding, timeout = found.values()
    if method != b"POST":
        raise WireError(INTERNAL, "gRPC calls are made with POST", b"405")
    if content_type != b"application/grpc" and not content_type.startswith(
        (b"application/grpc+", b"application/grpc;")
    ):
        raise WireError(UNKNOWN, "the content type is not that of gRPC", b"415")
    if size > most_bytes:
        raise WireError(RESOURCE_EXHAUSTED, f"the metadata has {size} bytes; at most {most_bytes} are read")
    if encoding not in {b"", b"identity"}:
        raise WireError(UNIMPLEMENTED, "compressed messages are not accepted; grpc-accept-encoding says what is")
    return RequestHead(path.decode("latin-1"), read_timeout(timeout) if timeout else None, tuple(metadata), size)


def read_timeout(value: bytes) -> float:
    """Return the seconds of a `grpc-timeout`. Raises `WireError`."""
    unit = _UNITS.get(value[-1:])
    digits = value[:-1]
    if unit is None or not 1 <= len(digits) <= 8 or not digits.isdigit():
        raise WireError(INTERNAL, "grpc-timeout is at most 8 digits and a unit")
    return int(digits) * unit


def _metadata(name: bytes, value: bytes) -> Iterable[tuple[str, str | bytes]]:
    if not _KEY.match(name):
        raise WireError(INTERNAL, "a metadata key has a character that gRPC does not allow")
    key = name.decode("ascii")
    if name.endswith(b"-bin"):
        # Several values of one key may have been joined by an intermediary (RFC 9110 5.3).
        return [(key, decode_binary(one.strip())) for one in value.split(b",")]
    if not _VALUE.match(value):
        raise WireError(INTERNAL, f"the value of {key} has a character that gRPC does not allow")
    return ((key, value.decode("ascii")),)


def decode_binary(value: bytes) -> bytes:
    """Return the bytes of a `-bin` value, padded or not. Raises `WireError`."""
    bare = value.rstrip(b"=")
    try:
        return base64.b64decode(bare + b"=" * (-len(bare) % 4), validate=True)
    except binascii.Error:
        raise WireError(INTERNAL, "a binary metadata value is not base64") from None


def encode_metadata(metadata: Iterable[tuple[str, str | bytes]]) -> list[Header]:
    """Return a handler's metadata as headers. Raises `ValueError` for keys and values that gRPC does not allow."""
    found = []
    for key, value in metadata:
        name = key.encode("ascii")
        if not _KEY.match(name) or name.startswith(b"grpc-") or name.endswith(b"-bin") != isinstance(value, bytes):
            raise ValueError(f"{key!r} cannot be the key of such a value")
        field = base64.b64encode(value).rstrip(b"=") if isinstance(value, bytes) else value.encode("ascii")
        if not _VALUE.match(field):
            raise ValueError(f"the value of {key} has a character that gRPC does not allow")
        found.append((name, field))
    return found


def frame(message: bytes) -> bytes:
    """Return a message with its prefix, uncompressed."""
    return b"\0" + len(message).to_bytes(4, "big") + message


def encode_message(text: str) -> bytes:
    """Percent-encode an error's text for `grpc-message`, cut to a bounded length between characters."""
    if _PLAIN.match(text):
        return text[:_MAX_MESSAGE_BYTES].encode("ascii")
    encoded = quote(text, safe=" !\"#$&'()*+,-./:;<=>?@[\\]^_`{|}~", errors="replace")
    while len(encoded) > _MAX_MESSAGE_BYTES:
        text = text[: len(text) * _MAX_MESSAGE_BYTES // len(encoded)]
        encoded = quote(text, safe=" !\"#$&'()*+,-./:;<=>?@[\\]^_`{|}~", errors="replace")
    return encoded.encode("ascii")


def trailers(code: int, message: str, metadata: Sequence[tuple[str, bytes]], most_bytes: int) -> list[Header]:
    """Return the trailers that end a call; metadata that the peer would refuse (its header list limit) is left out."""
    found = [(b"grpc-status", b"%d" % code)]
    if message:
        found.append((b"grpc-message", encode_message(message)))
    left = most_bytes - sum(len(name) + len(value) + FIELD_OVERHEAD for name, value in (*RESPONSE, *found))
    for key, value in metadata:
        field = (key.encode("ascii"), base64.b64encode(value).rstrip(b"="))
        left -= len(field[0]) + len(field[1]) + FIELD_OVERHEAD
        if left >= 0:
            found.append(field)
    return found


class MessageReader:
    """Takes the bytes of one direction of a call apart into messages; holds the bytes of an unfinished one."""

    __slots__ = ("_most", "_parts", "held", "needed")

    def __init__(self, most: int) -> None:
        """Take the largest message that is read."""
        self._most = most
        # Not one array that grows: thousands of them at once leave the heap in pieces, three times as large as they are.
        self._parts: list[bytes | bytearray] = []
        self.held = 0
        """Bytes of the unfinished message."""
        self.needed = PREFIX_BYTES
        """Bytes of the next message with its prefix, as far as they are known."""

    def feed(self, data: bytes) -> list[bytes]:
        """Return the messages that `data` completes. Raises `WireError`; nothing can be read after that."""
        # Most messages arrive whole, in one frame: they are not copied together first.
        if not self.held and len(data) >= PREFIX_BYTES:
            needed = self._length(data, 0)
            if len(data) == needed:
                return [data[PREFIX_BYTES:]]
        elif self.held >= PREFIX_BYTES and self.held + len(data) < self.needed:
            self._keep(data)
            return []
        buffer = b"".join((*self._parts, data))
        self._parts.clear()
        messages: list[bytes] = []
        at = 0
        self.needed = PREFIX_BYTES
        while len(buffer) - at >= PREFIX_BYTES:
            needed = self._length(buffer, at)
            if len(buffer) - at < needed:
                self.needed = needed
                break
            messages.append(buffer[at + PREFIX_BYTES : at + needed])
            at += needed
        self.held = 0
        self._keep(buffer[at:])
        return messages

    def drop(self) -> None:
        """Let go of an unfinished message; nothing follows."""
        self._parts.clear()
        self.held = 0

    def _keep(self, data: bytes) -> None:
        self.held += len(data)
        last = self._parts[-1] if self._parts else b""
        if isinstance(last, bytearray) and len(last) + len(data) <= _PART_BYTES:
            last += data
        elif data:
            self._parts.append(data if len(data) > _PART_BYTES // 2 else bytearray(data))

    def _length(self, data: bytes, at: int) -> int:
        if data[at]:
            raise WireError(INTERNAL, "a message is flagged as compressed, and the call names no encoding")
        length = int.from_bytes(data[at + 1 : at + PREFIX_BYTES], "big")
        if length > self._most:
            raise WireError(RESOURCE_EXHAUSTED, f"a message has {length} bytes; at most {self._most} are read")
        return length + PREFIX_BYTES

    def end(self) -> None:
        """Check that the bytes ended with a message. Raises `WireError`."""
        if self.held:
            raise WireError(INTERNAL, "the call ended within a message")
