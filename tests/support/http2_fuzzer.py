"""Random frames for a `GrpcConnection`: `python -m support.http2_fuzzer --inputs 1000000`.

An input is a connection: a preface and frames, most of them well-formed, some with changed, lost or repeated bytes, cut
into pieces anywhere. The same seed makes the same inputs. What must hold is checked after each.
"""

import argparse
import random
import sys
import time
from collections import Counter
from dataclasses import dataclass, field, replace

import hpack

from keyreeve.errors import AccessDenied, KeyreeveError
from keyreeve_chassis.guard.route import Route
from keyreeve_chassis.rpc import wire
from keyreeve_chassis.rpc.connection import GrpcConnection
from keyreeve_chassis.rpc.http2.engines import Engine
from keyreeve_chassis.rpc.limits import ByteBudget, Conduct
from keyreeve_chassis.rpc.stream import Stream
from support.http2_attacker import frame, message
from support.http2_peer import BIDI, CLOSED, ENGINES, LIMITS, UNARY, ScriptedCalls

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
BUDGET = 256 * 1024
_LIMITS = replace(LIMITS, request_bytes=128 * 1024, streams=20)
_SLOWEST = 2.0
"""Seconds of the processor for one input."""
_FIELDS = [
    (":method", "POST"),
    (":method", "GET"),
    (":scheme", "http"),
    (":path", UNARY),
    (":path", BIDI),
    (":path", CLOSED),
    (":authority", "x"),
    ("content-type", "application/grpc"),
    ("content-type", "text/html"),
    ("te", "trailers"),
    ("grpc-timeout", "5S"),
    ("grpc-timeout", "999999999S"),
    ("grpc-encoding", "gzip"),
    ("x-a", "b"),
    ("x-bin", "AAE"),
    ("x-bin", "A,B,!"),
    ("connection", "close"),
    ("content-length", "3"),
    ("x-long", "~" * 20_000),
]
_CALL = [_FIELDS[0], _FIELDS[2], _FIELDS[6], _FIELDS[7], _FIELDS[9]]


class FuzzedCalls(ScriptedCalls):
    """Ends calls at random, as handlers do."""

    def __init__(self, rng: random.Random) -> None:
        super().__init__()
        self.rng = rng
        self.connection: GrpcConnection
        self.running: list[Stream] = []

    def check(self, stream: Stream) -> KeyreeveError | None:
        return AccessDenied("no") if stream.head.path == CLOSED else None

    def route(self, path: str) -> Route:
        return super().route(path)

    def start(self, stream: Stream, request: bytes | None) -> None:
        self.running.append(stream)

    def refuse(self, stream: Stream, error: KeyreeveError) -> None:
        self.running.append(stream)

    def cancel(self, stream: Stream) -> None:
        """Its task ends later, as a cancelled one does."""

    def go_on(self) -> None:
        """Let some of the handlers do something."""
        for stream in list(self.running):
            act = self.rng.randrange(6)
            if act == 0:
                self.connection.respond(stream, bytes(self.rng.choice([0, 10, 100_000])))
            elif act == 1:
                self.connection.finish(stream, 7, "no", (("grpc-status-details-bin", b"x"),))
            elif act == 2:
                self.connection.send(stream, bytes(10))
            elif act == 3 and not stream.single:
                self.connection.take_request(stream)
            if act in {0, 1} or stream.gone or stream.finished:
                self.running.remove(stream)
                self.connection.done(stream)

    def end(self) -> None:
        """Let all handlers end."""
        for stream in self.running:
            self.connection.done(stream)
        self.running.clear()


def _held(connection: GrpcConnection) -> int:
    """The bytes in the buffers of a connection, whatever its budget has counted."""
    unread = 0
    for stream in connection._streams.values():
        unread += sum(len(part) for part in (*stream.reader._parts, *stream.messages))
    return unread + connection._http2.unsent()


@dataclass
class Fuzzer:
    """Makes inputs and checks what becomes of them."""

    engine: Engine
    seed: int
    rng: random.Random = field(init=False)
    inputs: int = 0
    ends: Counter[str] = field(default_factory=Counter)
    slowest: float = 0.0
    most_held: int = 0
    last_stream: int = -1

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)

    # --- Inputs -------------------------------------------------------------------------------------------------------

    def make(self) -> bytes:
        """One connection's bytes."""
        rng, encoder = self.rng, hpack.Encoder()
        parts = [PREFACE if rng.random() > 0.01 else PREFACE[: rng.randrange(24)], frame(4, 0, 0)]
        self.last_stream = -1
        wild = rng.random() < 0.5
        parts += [self._frame(encoder, wild=wild) for _ in range(rng.randrange(1, 40))]
        if wild and rng.random() < 0.5:
            at = rng.randrange(len(parts))
            parts[at] = self._damaged(parts[at])
        if wild and rng.random() < 0.1:
            rng.shuffle(parts)
        return b"".join(parts)

    def _frame(self, encoder: hpack.Encoder, *, wild: bool) -> bytes:  # noqa: PLR0911  # one kind of frame each
        rng = self.rng
        stream = max(1, self.last_stream - 2 * rng.randrange(4))
        if wild and rng.random() < 0.1:
            stream = rng.choice([0, 2, 2**31 - 1])
        match rng.randrange(14 if wild else 8) if self.last_stream > 0 else 0:
            case 0 | 1 | 2 | 3:
                return self._headers(encoder, stream)
            case 4 | 5 | 6:
                return self._data(stream)
            case 7:
                return frame(3, 0, stream, rng.randrange(20).to_bytes(4, "big"))
            case 8:
                settings = b"".join(
                    rng.randrange(8).to_bytes(2, "big")
                    + rng.choice([0, 1, 65535, 2**31 - 1, 2**32 - 1]).to_bytes(4, "big")
                    for _ in range(rng.randrange(4))
                )
                return frame(4, rng.choice([0, 0, 1]), rng.choice([0, 0, stream]), settings)
            case 9:
                return frame(6, rng.choice([0, 1]), rng.choice([0, 0, stream]), bytes(rng.choice([8, 8, 7])))
            case 10:
                return frame(8, 0, stream, rng.choice([0, 1, 65535, 2**31 - 1]).to_bytes(4, "big"))
            case 11:
                return frame(7, 0, rng.choice([0, stream]), bytes(8) + rng.randbytes(rng.randrange(4)))
            case 12:
                return frame(2, 0, stream, rng.randbytes(5))
            case _:
                return frame(rng.randrange(256), rng.randrange(256), stream, rng.randbytes(rng.randrange(60)))

    def _headers(self, encoder: hpack.Encoder, stream: int) -> bytes:
        rng = self.rng
        if rng.random() < 0.9:
            stream = self.last_stream = self.last_stream + 2
        fields = [(":path", rng.choice([UNARY, BIDI, BIDI, CLOSED])), *_CALL]
        if rng.random() < 0.1:
            fields += rng.choices(_FIELDS[10:], k=rng.randrange(1, 6))
        if rng.random() < 0.03:
            fields = rng.choices(_FIELDS, k=rng.randrange(1, 9))
        block = encoder.encode(fields, huffman=rng.random() < 0.1 and len(fields) < 8)
        end = rng.choice([0, 0, 0, 1])
        if rng.random() < 0.15 and len(block) > 1:
            cut = rng.randrange(1, len(block))
            return frame(1, end, stream, block[:cut]) + frame(9, rng.choice([4, 4, 0]), stream, block[cut:])
        return frame(1, 4 | end, stream, block[:16384])

    def _data(self, stream: int) -> bytes:
        rng = self.rng
        size = rng.choice([0, 1, 10, 1000, 16_000])
        body = message(rng.randbytes(size), rng.choice([None, None, 0, size + 1, 100_000, 2**32 - 1]))
        if rng.random() < 0.2:
            body = b"".join(message(bytes(rng.randrange(5))) for _ in range(rng.randrange(50)))
        if rng.random() < 0.1:
            body = rng.randbytes(rng.randrange(20))
        body = body[:16_384]
        flags = rng.choice([0, 0, 1])
        if rng.random() < 0.1:
            return frame(0, flags | 8, stream, bytes([rng.randrange(256)]) + body[:16_000] + bytes(rng.randrange(40)))
        return frame(0, flags, stream, body)

    def _damaged(self, data: bytes) -> bytes:
        rng, found = self.rng, bytearray(data)
        for _ in range(rng.randrange(1, 4)):
            if not found:
                break
            at = rng.randrange(len(found))
            match rng.randrange(4):
                case 0:
                    found[at] ^= 1 << rng.randrange(8)
                case 1:
                    del found[at : at + rng.randrange(1, 10)]
                case 2:
                    found[at:at] = found[at : at + rng.randrange(1, 10)]
                case _:
                    found[at : at + 1] = rng.randbytes(3)
        return bytes(found)

    # --- What must hold -----------------------------------------------------------------------------------------------

    def step(self) -> None:
        """Make an input, send it, and check."""
        data, rng = self.make(), self.rng
        began, now = time.thread_time(), 1000.0
        budget, calls = ByteBudget(BUDGET), FuzzedCalls(rng)
        engine = self.engine.connection(streams=_LIMITS.streams, header_bytes=_LIMITS.metadata_bytes, resets=(500, 100))
        connection = calls.connection = GrpcConnection(engine, Conduct(_LIMITS, now), budget, calls, now)
        at = 0
        while at < len(data) and not connection.closed:
            size = rng.choice([1, 9, 100, 5000, len(data)])
            connection.receive(data[at : at + size], now)
            at += size
            calls.go_on()
            while connection.output(now):
                """Nobody looks at it."""
            now += rng.choice([0, 0, 0, 0.1, 3])
            connection.tick(now)
            held = _held(connection)
            self.most_held = max(self.most_held, held)
            assert max(held, budget.total) <= BUDGET + _LIMITS.request_bytes, "more is held than may be"
        self.ends["closed" if connection.closed else "open"] += 1
        connection.lose()
        calls.end()
        assert budget.total == 0, "something is still counted as held"
        assert not connection._streams, "a call is left"
        self.slowest = max(self.slowest, time.thread_time() - began)
        assert self.slowest < _SLOWEST, "an input took too long"
        self._wire()
        self.inputs += 1

    def _wire(self) -> None:
        """What `wire` reads does not depend on how it was cut, and fails in one way only."""
        rng = self.rng
        body = b"".join(message(bytes(rng.randrange(40))) for _ in range(rng.randrange(6)))
        body = self._damaged(body) if rng.random() < 0.5 else body
        whole, cut = _messages([body]), _messages([body[at : at + 3] for at in range(0, len(body), 3)])
        assert whole == cut
        try:
            wire.read_timeout(rng.randbytes(rng.randrange(10)))
            wire.decode_binary(rng.randbytes(rng.randrange(10)))
        except wire.WireError:
            """As it should be."""
        text = "".join(
            chr(rng.choice([rng.randrange(0x20), rng.randrange(0x250), 0x1F608])) for _ in range(rng.randrange(30))
        )
        assert all(0x20 <= byte < 0x7F for byte in wire.encode_message(text))

    def run(self, *, inputs: int = sys.maxsize, seconds: float = float("inf")) -> None:
        """Go on for so many inputs or so long. Raises `AssertionError` with the seed and number of the input."""
        until = time.monotonic() + seconds
        while self.inputs < inputs and time.monotonic() < until:
            try:
                self.step()
            except Exception as failed:
                raise AssertionError(
                    f"input {self.inputs} of seed {self.seed} on {self.engine.library}: {failed!r}"
                ) from failed


def _messages(parts: list[bytes]) -> tuple[list[bytes], int | None]:
    reader, found = wire.MessageReader(64), []
    try:
        for part in parts:
            found += reader.feed(part)
        reader.end()
    except wire.WireError as broken:
        return [], broken.code
    return found, None


if __name__ == "__main__":
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--inputs", type=int, default=1_000_000)
    arguments.add_argument("--seed", type=int, default=1)
    arguments.add_argument("--engine", choices=[engine.library for engine in ENGINES], default=ENGINES[0].library)
    told = arguments.parse_args()
    [chosen] = [engine for engine in ENGINES if engine.library == told.engine]
    fuzzer = Fuzzer(chosen, told.seed)
    fuzzer.run(inputs=told.inputs)
    print(
        f"{fuzzer.inputs} inputs, {dict(fuzzer.ends)}, slowest {fuzzer.slowest * 1000:.0f} ms, "
        f"at most {fuzzer.most_held} bytes held"
    )
