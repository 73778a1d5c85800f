"""The transport of one accepted connection: plain or TLS over memory buffers, and an orderly end."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

import structlog

from keyreeve_chassis.guard.admission import address_of
from keyreeve_chassis.guard.call import AuthContext
from keyreeve_chassis.rpc.calls import ConnectionCalls, Routes, Starts
from keyreeve_chassis.rpc.connection import GrpcConnection
from keyreeve_chassis.rpc.http2.engines import Engine
from keyreeve_chassis.rpc.limits import ByteBudget, Conduct, ConnectionLimits, Standing
from keyreeve_chassis.tls import TlsAcceptor, TlsFailed, TlsSession

_WRITE_BUFFER_BYTES = 256 * 1024
_READ_BYTES = 64 * 1024
"""Of one connection in one turn of the event loop: 256 KiB take 3 ms to decrypt and to take apart."""
_QUEUED_BYTES = 16 * 1024
"""Of a handshake that waits for its turn: beyond, nothing more is read until then."""
_HANDSHAKE_BYTES = 192 * 1024
"""Before a handshake is complete: OpenSSL takes chains of 100 KiB, and requests may come with the end of it."""
_LINGER_SECONDS = 1.0
_LAST_WORD_SECONDS = 10.0
_LINGER_BYTES = 256 * 1024
"""After the last word of this server, what the peer still sends is read and dropped: else TCP resets the connection, and
the peer may lose that word, such as ENHANCE_YOUR_CALM."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ListenerLimits:
    """How much one listener accepts. Durations in seconds."""

    connection: ConnectionLimits
    connections: int
    connections_per_peer: int
    """Of one identity, with calls or without."""
    connections_per_address: int
    """Of one address (for IPv6: one /64), from the first byte on."""
    handshakes: int
    """At once."""
    handshake_timeout: float


class Owner(Protocol):
    """The listener of a connection."""

    guard: Routes
    engine: Engine
    limits: ListenerLimits
    budget: ByteBudget
    tls: TlsAcceptor | None
    identify: Callable[[bytes], str] | None
    of_peer: Counter[str]
    handshaking: "dict[Transport, None]"
    running: "set[asyncio.Task[None]]"
    starts: Starts

    def turn(self, one: "Transport") -> None:
        """Go on with a handshake, in turn with those of other connections."""
        ...

    def standing(self, name: str) -> Standing:
        """Return what is known of a caller, by its identity or its address."""
        ...

    def slow_down(self, address: str) -> None:
        """Let handshakes of an address wait for a while: a caller that was cut off comes back from there."""
        ...

    def rest(self, one: "Transport", standing: Standing) -> None:
        """Have a connection read again (`go_on`) when its caller has not used up its share any more."""
        ...

    def forget(self, one: "Transport") -> None:
        """Count a connection that has ended."""
        ...


class Transport(asyncio.Protocol):
    """One accepted connection."""

    __slots__ = (
        "_buffered",
        "_calls",
        "_connection",
        "_counted",
        "_dropped",
        "_ended",
        "_let_go",
        "_loop",
        "_opened",
        "_owner",
        "_paused",
        "_peer",
        "_queued",
        "_received",
        "_resting",
        "_shaking",
        "_standing",
        "_taken",
        "_taken_since",
        "_tls",
        "_transport",
        "_unread",
        "_written",
        "address",
    )

    def __init__(self, owner: Owner, peer: str) -> None:
        self._owner = owner
        self._peer = peer
        self.address = address_of(peer)
        self._loop = asyncio.get_running_loop()
        self._opened = self._loop.time()
        self._transport: asyncio.Transport | None = None
        self._tls: TlsSession | None = None
        self._connection: GrpcConnection | None = None
        self._calls: ConnectionCalls | None = None
        self._counted: str | None = None
        self._paused = False
        self._queued = False
        """Its handshake waits for its turn."""
        self._unread = 0
        """Bytes that have come since it waits."""
        self._received = 0
        """Bytes that came before the handshake was complete."""
        self._resting = False
        self._let_go = False
        self._buffered = 0
        """Bytes that the socket has not taken, as counted in the budget."""
        self._written = 0
        self._taken = 0
        self._taken_since = self._opened
        """How many bytes of `_written` the socket had taken at the last tick, and since when."""
        self._shaking = 0.0
        self._standing: Standing | None = None
        self._ended: float | None = None
        self._dropped = 0

    # --- asyncio ------------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.set_write_buffer_limits(high=_WRITE_BUFFER_BYTES)
        transport.max_size = _READ_BYTES  # type: ignore[attr-defined]  # of asyncio's transports of sockets: 256 KiB
        if self._owner.tls is None:
            if self._count(None):
                self._begin({})
            else:
                self.end()
        else:
            self._tls = self._owner.tls.accept()
            self._owner.handshaking[self] = None

    def data_received(self, data: bytes) -> None:
        tls, connection = self._tls, self._connection
        if self._ended is not None:
            self._dropped += len(data)
            if self._dropped > _LINGER_BYTES:
                self.abort()
            return
        began = time.thread_time()
        if tls is not None:
            if connection is None:
                self._receive_handshake(tls, data)
                return
            tls.take_in(data)
            self._read()
        elif connection is not None:
            connection.receive(data, self._loop.time())
            self._schedule()
        self._charge(time.thread_time() - began)

    def _receive_handshake(self, tls: TlsSession, data: bytes) -> None:
        self._received += len(data)
        if self._received > _HANDSHAKE_BYTES:
            self.abort()
            return
        tls.take_in(data)
        self._unread += len(data)
        if self._unread > _QUEUED_BYTES and self._transport is not None:
            self._transport.pause_reading()
        if not self._queued:
            self._queued = True
            self._owner.turn(self)

    def _charge(self, seconds: float) -> None:
        """Charge the caller for the processor's time; while it has used up its share, nothing more is read from it."""
        standing, transport = self._standing, self._transport
        if standing is None:
            return
        now = self._loop.time()
        standing.spend(seconds, now)
        if not self._resting and transport is not None and standing.rest(now):
            self._resting = True
            transport.pause_reading()
            self._owner.rest(self, standing)

    def go_on(self) -> None:
        """Read again after a rest."""
        self._resting = False
        self._resume_reading()

    def eof_received(self) -> bool:
        return False

    def pause_writing(self) -> None:
        self._paused = True
        if self._transport is not None:
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._paused = False
        self._resume_reading()
        self.flush()
        if self._connection is not None:
            self._connection.wake_senders()

    def _resume_reading(self) -> None:
        if self._transport is not None and not (self._resting or self._paused):
            with suppress(RuntimeError):
                self._transport.resume_reading()

    def connection_lost(self, _: Exception | None) -> None:
        self._transport = None
        if self._connection is not None:
            self._connection.lose()
        if self._counted is not None:
            self._owner.of_peer[self._counted] -= 1
            if not self._owner.of_peer[self._counted]:
                del self._owner.of_peer[self._counted]
        self._owner.budget.release(self)
        self._owner.forget(self)
        # Not to leave a cycle to the garbage collector.
        self._connection = self._calls = self._tls = None

    # --- TLS ----------------------------------------------------------------------------------------------------------

    def shake_hands(self) -> bool:
        """Go on with the handshake, in turn with those of other connections; False: the connection has ended."""
        if self._tls is None or self._transport is None or self._transport.is_closing() or self._ended is not None:
            return False
        self._queued, self._unread = False, 0
        self._resume_reading()
        began = time.thread_time()
        try:
            complete = self._tls.handshake()
        except TlsFailed as failed:
            _log.debug("handshake failed", peer=self._peer, error=str(failed))
            self._say_last(self._transport, self._tls.output())
            return True
        if output := self._tls.output():
            self._transport.write(output)
        self._shaking += time.thread_time() - began
        if complete:
            self._owner.handshaking.pop(self, None)
            pem = self._tls.peer_pem()
            if not self._count(pem):
                self.end()
                return True
            auth: AuthContext = {"ssl_tls_version": [self._tls.version.encode()]}
            if pem is not None:
                auth = {**auth, "x509_pem_cert": [pem]}
            self._begin(auth)
            self._read()
            self._charge(self._shaking)
        return True

    def _count(self, pem: bytes | None) -> bool:
        """Count a connection with its identity, or its address without one; False: it may not have another."""
        owner = self._owner
        name = None if pem is None or owner.identify is None else owner.identify(pem)
        if name is not None and owner.of_peer[name] >= owner.limits.connections_per_peer:
            _log.info("an identity has too many connections", peer=self._peer, identity=name)
            return False
        standing = owner.standing(self.address if name is None else name)
        if standing.used_up(self._loop.time()):
            owner.slow_down(self.address)
            return False
        self._standing = standing
        if name is not None:
            owner.of_peer[name] += 1
            self._counted = name
        return True

    def _read(self) -> None:
        if self._tls is None or self._connection is None:
            return
        try:
            data = self._tls.read()
        except TlsFailed:
            self.end()
            return
        if data:
            self._connection.receive(data, self._loop.time())
            self._schedule()

    # --- Sending ------------------------------------------------------------------------------------------------------

    def _begin(self, auth: AuthContext) -> None:
        limits = self._owner.limits.connection
        engine = self._owner.engine.connection(
            streams=limits.streams,
            header_bytes=limits.metadata_bytes,
            resets=(limits.resets_burst, limits.resets_per_second),
        )
        self._calls = ConnectionCalls(
            self._owner.guard,
            self._peer,
            auth,
            flush=self.flush,
            running=self._owner.running,
            starts=self._owner.starts,
        )
        now = self._loop.time()
        conduct = Conduct(limits, now, self._standing)
        self._connection = GrpcConnection(engine, conduct, self._owner.budget, self._calls, now)
        self._calls.connection = self._connection
        self.flush()

    def _schedule(self) -> None:
        if self._calls is not None:
            self._calls.schedule()

    def flush(self) -> None:
        """Send what is ready, as far as the peer reads it."""
        connection, transport = self._connection, self._transport
        if connection is None or transport is None or transport.is_closing() or self._ended is not None:
            return
        now = self._loop.time()
        while not self._paused and (data := connection.output(now)):
            if self._tls is not None:
                try:
                    self._tls.write(data)
                except TlsFailed:
                    self.abort()
                    return
                data = self._tls.output()
            self._written += len(data)
            transport.write(data)
        if self._paused:
            connection.count_unsent(now)
        self._hold(transport)
        if connection.closed:
            self.end()

    def _hold(self, transport: asyncio.Transport) -> None:
        """Count what the socket has not taken."""
        buffered = transport.get_write_buffer_size()
        if buffered != self._buffered:
            self._buffered = buffered
            self._owner.budget.hold(self, buffered)

    @property
    def caller(self) -> Standing | None:
        return self._standing

    def give_up(self) -> None:
        """Let go of what the peer does not read."""
        self.abort()

    def _stalled(self, now: float) -> bool:
        """Whether the socket has taken nothing for too long; called in each tick."""
        taken = self._written - self._buffered
        if not self._buffered or taken != self._taken:
            self._taken, self._taken_since = taken, now
        return now - self._taken_since > self._owner.limits.connection.stall_timeout

    def tick(self, now: float) -> None:
        """Apply what depends on time alone."""
        if self._ended is not None:
            unsent = self._transport is not None and self._transport.get_write_buffer_size()
            if now - self._ended > (_LAST_WORD_SECONDS if unsent else _LINGER_SECONDS):
                self.abort()
        elif self._connection is not None:
            self._connection.tick(now)
            self.flush()
            if not self._let_go and self._tls is not None:
                self._let_go = self._tls.let_go()
            if self._stalled(now) or (self._paused and self._connection.closed):
                self.abort()
        elif now - self._opened > self._owner.limits.handshake_timeout:
            self.abort()

    def drain(self, now: float, grace: float) -> None:
        """Ask the peer to go elsewhere."""
        if self._connection is None:
            self.abort()
        else:
            self._connection.drain(now, grace)
            self.flush()

    def end(self) -> None:
        """Close the connection once what was written is sent."""
        if self._connection is not None:
            if self._connection.abused:
                self._owner.slow_down(self.address)
            self._connection.lose()
        transport = self._transport
        if transport is None or transport.is_closing() or self._ended is not None:
            return
        if self._tls is None:
            self._say_last(transport, b"")
        else:
            self._tls.close()
            self._say_last(transport, self._tls.output())

    def _say_last(self, transport: asyncio.Transport, data: bytes) -> None:
        self._ended = self._loop.time()
        transport.write(data)
        with suppress(OSError):
            transport.write_eof()
        self._resting = self._paused = False  # what is read from now on is dropped
        self._resume_reading()

    def abort(self) -> None:
        """Close the connection at once."""
        if self._transport is None:
            self._owner.forget(self)
        else:
            self._transport.abort()
