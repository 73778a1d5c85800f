"""Listening sockets, and the transport of each connection: TCP, TLS over memory buffers, an orderly end."""

import asyncio
import errno
import resource
import socket
from collections import Counter, deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import structlog

from keyreeve_chassis.guard.call import AuthContext
from keyreeve_chassis.rpc.calls import ConnectionCalls, Routes
from keyreeve_chassis.rpc.connection import GrpcConnection
from keyreeve_chassis.rpc.http2_ngh2 import http2_connection
from keyreeve_chassis.rpc.limits import ByteBudget, ConnectionLimits
from keyreeve_chassis.tls import TlsAcceptor, TlsFailed, TlsSession

_BACKLOG = 512
_ACCEPTS_PER_TURN = 16
_HANDSHAKES_PER_TURN = 4
"""A handshake takes about 0.4 ms of this process: between two turns of the loop the calls in progress wait for these."""
_TICK_SECONDS = 1.0
_WRITE_BUFFER_BYTES = 256 * 1024
_STOP_SECONDS = 2.0
"""What cancelled calls get, after the grace, to end."""
_PAUSE_SECONDS = 0.1
"""When the process has no file descriptor left, until it looks again."""
_OUT_OF_DESCRIPTORS: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ListenerLimits:
    """How much one listener accepts. Durations in seconds."""

    connection: ConnectionLimits
    connections: int
    connections_per_peer: int
    """Of one identity, with calls or without."""
    handshakes: int
    """At once."""
    handshake_timeout: float


def raise_descriptor_limit() -> None:
    """Let the process open as many files and connections as the system allows it to."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


class Listener:
    """Accepts connections and serves the calls of `guard` on them until `stop`."""

    def __init__(
        self,
        guard: Routes,
        limits: ListenerLimits,
        budget: ByteBudget,
        tls: TlsAcceptor | None,
        identify: Callable[[bytes], str] | None = None,
    ) -> None:
        """Take what to serve; without `tls` in plain text. `identify` names the owner of a certificate, for counting."""
        self.guard = guard
        self.limits = limits
        self.budget = budget
        self.tls = tls
        self.identify = identify
        self.of_peer: Counter[str] = Counter()
        self.ready: deque[_Transport] = deque()
        self.handshaking: dict[_Transport, None] = {}
        self.running: set[asyncio.Task[None]] = set()
        """The tasks of calls, those of connections that are gone too."""
        self._connections: set[_Transport] = set()
        self._loop = asyncio.get_running_loop()
        self._sockets: list[socket.socket] = []
        self._opening: set[asyncio.Task[object]] = set()
        self._ticking: asyncio.TimerHandle | None = None
        self._turning = False
        self._emptied = asyncio.Event()
        self._emptied.set()

    @property
    def connections(self) -> int:
        """Open connections."""
        return len(self._connections)

    def listen(self, host: str, port: int) -> int:
        """Bind every address of `host` and accept; returns the port. Raises `RuntimeError` when it cannot be bound."""
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
            for family, kind, protocol, _, address in dict.fromkeys(found):
                bound = socket.socket(family, kind, protocol)
                self._sockets.append(bound)
                bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                # Worker processes share one port; the kernel spreads connections over them.
                bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
                if family == socket.AF_INET6:
                    bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                bound.setblocking(False)
                bound.bind((address[0], port, *address[2:]))
                port = bound.getsockname()[1]
        except OSError as failed:
            self._close_sockets()
            raise RuntimeError(f"cannot listen on {host}:{port}: {failed}") from failed
        for bound in self._sockets:
            bound.listen(_BACKLOG)
            self._loop.add_reader(bound, self._accept, bound)
        self._ticking = self._loop.call_later(_TICK_SECONDS, self._tick)
        return port

    async def stop(self, grace: float) -> None:
        """Take no new connections, tell the others to go elsewhere, and end them when their calls have, or after `grace`."""
        self._close_sockets()
        now = self._loop.time()
        for one in list(self._connections):
            one.drain(now, grace)
        with suppress(TimeoutError):
            await asyncio.wait_for(self._emptied.wait(), grace)
        if self._ticking is not None:
            self._ticking.cancel()
        for one in list(self._connections):
            one.end()
        for task in self._opening:
            task.cancel()
        while self._connections:
            # The tasks of cancelled calls end, and the transports report that they are closed.
            self._emptied.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._emptied.wait(), _TICK_SECONDS)
            for one in list(self._connections):
                one.abort()
        if self.running:
            # Cancelled calls still write their audit records.
            await asyncio.wait(set(self.running), timeout=_STOP_SECONDS)

    def _close_sockets(self) -> None:
        for bound in self._sockets:
            self._loop.remove_reader(bound)
            bound.close()
        self._sockets.clear()

    def _accept(self, bound: socket.socket) -> None:
        for _ in range(_ACCEPTS_PER_TURN):
            try:
                accepted, address = bound.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as failed:
                if failed.errno not in _OUT_OF_DESCRIPTORS:
                    raise
                _log.warning("no connection can be accepted now", error=str(failed), connections=self.connections)
                self._loop.remove_reader(bound)
                self._loop.call_later(_PAUSE_SECONDS, self._resume, bound)
                return
            if len(self._connections) >= self.limits.connections:
                accepted.close()
                continue
            if len(self.handshaking) >= self.limits.handshakes:
                oldest = next(iter(self.handshaking))
                del self.handshaking[oldest]
                oldest.abort()
            accepted.setblocking(False)
            with suppress(OSError):
                accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            made = _Transport(self, _peer(accepted.family, address))
            self._connections.add(made)
            self._emptied.clear()
            task: asyncio.Task[object] = self._loop.create_task(self._open(accepted, made))
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)

    async def _open(self, accepted: socket.socket, made: "_Transport") -> None:
        try:
            await self._loop.connect_accepted_socket(lambda: made, accepted)
        except OSError:
            self.forget(made)
            accepted.close()

    def _resume(self, bound: socket.socket) -> None:
        if bound in self._sockets:
            self._loop.add_reader(bound, self._accept, bound)

    def _tick(self) -> None:
        now = self._loop.time()
        for one in list(self._connections):
            one.tick(now)
        self._ticking = self._loop.call_later(_TICK_SECONDS, self._tick)

    def turn(self, one: "_Transport") -> None:
        """Go on with a handshake, a few in each turn of the loop."""
        self.ready.append(one)
        if not self._turning:
            self._turning = True
            self._loop.call_soon(self._shake_hands)

    def _shake_hands(self) -> None:
        for _ in range(min(_HANDSHAKES_PER_TURN, len(self.ready))):
            self.ready.popleft().shake_hands()
        self._turning = bool(self.ready)
        if self._turning:
            self._loop.call_soon(self._shake_hands)

    def forget(self, one: "_Transport") -> None:
        """Count a connection that has ended."""
        self._connections.discard(one)
        self.handshaking.pop(one, None)
        if not self._connections:
            self._emptied.set()


class _Transport(asyncio.Protocol):
    """One accepted connection."""

    __slots__ = (
        "_calls",
        "_connection",
        "_counted",
        "_listener",
        "_loop",
        "_opened",
        "_paused",
        "_peer",
        "_queued",
        "_tls",
        "_transport",
    )

    def __init__(self, listener: Listener, peer: str) -> None:
        self._listener = listener
        self._peer = peer
        self._loop = asyncio.get_running_loop()
        self._opened = self._loop.time()
        self._transport: asyncio.Transport | None = None
        self._tls: TlsSession | None = None
        self._connection: GrpcConnection | None = None
        self._calls: ConnectionCalls | None = None
        self._counted: str | None = None
        self._paused = False
        self._queued = False

    # --- asyncio ------------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.set_write_buffer_limits(high=_WRITE_BUFFER_BYTES)
        if self._listener.tls is None:
            self._begin({})
        else:
            self._tls = self._listener.tls.accept()
            self._listener.handshaking[self] = None

    def data_received(self, data: bytes) -> None:
        tls, connection = self._tls, self._connection
        if tls is not None:
            tls.take_in(data)
            if connection is None:
                if not self._queued:
                    self._queued = True
                    self._listener.turn(self)
                return
            self._read()
        elif connection is not None:
            connection.receive(data, self._loop.time())
            self._schedule()

    def eof_received(self) -> bool:
        return False

    def pause_writing(self) -> None:
        self._paused = True
        if self._transport is not None:
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._paused = False
        if self._transport is not None:
            with suppress(RuntimeError):
                self._transport.resume_reading()
        self.flush()
        if self._connection is not None:
            self._connection.wake_senders()

    def connection_lost(self, _: Exception | None) -> None:
        self._transport = None
        if self._connection is not None:
            self._connection.lose()
        if self._counted is not None:
            self._listener.of_peer[self._counted] -= 1
            if not self._listener.of_peer[self._counted]:
                del self._listener.of_peer[self._counted]
        self._listener.forget(self)

    # --- TLS ----------------------------------------------------------------------------------------------------------

    def shake_hands(self) -> None:
        """Go on with the handshake; called in turn with those of other connections."""
        self._queued = False
        if self._tls is None or self._transport is None or self._connection is not None:
            return
        try:
            complete = self._tls.handshake()
        except TlsFailed as failed:
            _log.debug("handshake failed", peer=self._peer, error=str(failed))
            self._transport.write(self._tls.output())
            self._transport.close()
            return
        if output := self._tls.output():
            self._transport.write(output)
        if complete:
            self._listener.handshaking.pop(self, None)
            pem = self._tls.peer_pem()
            if not self._count(pem):
                self.end()
                return
            auth: AuthContext = {"ssl_tls_version": [self._tls.version.encode()]}
            if pem is not None:
                auth = {**auth, "x509_pem_cert": [pem]}
            self._begin(auth)
            self._read()

    def _count(self, pem: bytes | None) -> bool:
        """Count a connection with its identity; False when that has too many."""
        listener = self._listener
        if pem is None or listener.identify is None:
            return True
        owner = listener.identify(pem)
        if listener.of_peer[owner] >= listener.limits.connections_per_peer:
            _log.info("an identity has too many connections", peer=self._peer, identity=owner)
            return False
        listener.of_peer[owner] += 1
        self._counted = owner
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
        limits = self._listener.limits.connection
        engine = http2_connection(
            streams=limits.streams,
            header_bytes=limits.metadata_bytes,
            resets=(limits.resets_burst, limits.resets_per_second),
        )
        self._calls = ConnectionCalls(
            self._listener.guard, self._peer, auth, flush=self.flush, running=self._listener.running
        )
        self._connection = GrpcConnection(engine, limits, self._listener.budget, self._calls, self._loop.time())
        self._calls.connection = self._connection
        self.flush()

    def _schedule(self) -> None:
        if self._calls is not None:
            self._calls.schedule()

    def flush(self) -> None:
        """Send what is ready, as far as the peer reads it."""
        connection, transport = self._connection, self._transport
        if connection is None or transport is None or transport.is_closing():
            return
        now = self._loop.time()
        while not self._paused and (data := connection.output(now)):
            if self._tls is None:
                transport.write(data)
                continue
            try:
                self._tls.write(data)
            except TlsFailed:
                self.abort()
                return
            transport.write(self._tls.output())
        if connection.closed:
            self.end()

    def tick(self, now: float) -> None:
        """Apply what depends on time alone."""
        if self._connection is not None:
            self._connection.tick(now)
            self.flush()
            if self._paused and self._connection.closed:
                self.abort()
        elif now - self._opened > self._listener.limits.handshake_timeout:
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
            self._connection.lose()
        if self._transport is not None and not self._transport.is_closing():
            if self._tls is not None:
                self._tls.close()
                self._transport.write(self._tls.output())
            self._transport.close()

    def abort(self) -> None:
        """Close the connection at once."""
        if self._transport is None:
            self._listener.forget(self)
        else:
            self._transport.abort()


def _peer(family: int, address: tuple[str, int]) -> str:
    if family == socket.AF_INET6:
        return f"ipv6:[{address[0]}]:{address[1]}"
    return f"ipv4:{address[0]}:{address[1]}"
