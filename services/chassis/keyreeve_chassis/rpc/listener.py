"""Listening sockets, and the transport of each connection: TCP, TLS over memory buffers, an orderly end."""

import asyncio
import errno
import resource
import socket
from collections import Counter, deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from keyreeve_chassis.rpc.calls import Routes, Starts
from keyreeve_chassis.rpc.http2.engines import Engine, usable_engine
from keyreeve_chassis.rpc.limits import ByteBudget, Standing
from keyreeve_chassis.rpc.sockets.binding import bind_sockets, close_sockets, peer_of
from keyreeve_chassis.rpc.sockets.spreading import Spreading
from keyreeve_chassis.rpc.sockets.transport import ListenerLimits, Transport
from keyreeve_chassis.tls import TlsAcceptor

_BACKLOG = 512
_ACCEPTS_PER_TURN = 16
_HANDSHAKES_PER_TURN = 1
"""A handshake takes about 0.4 ms of this process: between two turns of the loop the calls in progress wait for these."""
_SLOW_SECONDS = 10.0
"""For how long the handshakes of an address wait for their turn among themselves after a caller was cut off there."""
_SLOW_INTERVAL = 0.005
"""Between two steps of theirs; a handshake has two or three."""
_REST_INTERVAL = 0.002
"""Between two connections of one caller that go on: the next waits until the one before has been charged."""
_MOST_KNOWN = 10_000
"""Callers and addresses of which something is known."""
_TICK_SECONDS = 1.0
_STOP_SECONDS = 2.0
"""What cancelled calls get, after the grace, to end."""
_PAUSE_SECONDS = 0.1
"""When the process has no file descriptor left, until it looks again."""
_MOST_CONNECTIONS: Final = 2**32 - 1
_OUT_OF_DESCRIPTORS: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Shared:
    """Where the processes that serve one listener together find each other."""

    directory: Path
    listener: str
    """Its name among those of the service."""


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
        *,
        shared: Shared | None = None,
        engine: Engine | None = None,
    ) -> None:
        """Take what to serve; without `tls` in plain text. `identify` names the owner of a certificate, for counting.

        `shared`: other processes listen on the same port, and connections are spread evenly over them.
        """
        self.guard = guard
        self.engine = engine or usable_engine()
        self.limits = limits
        self.budget = budget
        self.tls = tls
        self.identify = identify
        self.of_peer: Counter[str] = Counter()
        self._of_address: Counter[str] = Counter()
        self.ready: deque[Transport] = deque()
        self.handshaking: dict[Transport, None] = {}
        self.running: set[asyncio.Task[None]] = set()
        """The tasks of calls, those of connections that are gone too."""
        self.starts = Starts()
        self._standings: dict[str, Standing] = {}
        self._resting: dict[Standing, deque[Transport]] = {}
        """The connections of callers that have used up their share of reading, in the order in which they read again."""
        self._slow: dict[str, float] = {}
        """Addresses whose handshakes wait, and until when."""
        self._slow_ready: deque[Transport] = deque()
        self._connections: set[Transport] = set()
        self._loop = asyncio.get_running_loop()
        self._sockets: list[socket.socket] = []
        self._opening: set[asyncio.Task[object]] = set()
        self._ticking: asyncio.TimerHandle | None = None
        """Only while there is something to look at."""
        self._turning = False
        self._accepted = 0
        self._stopping = False
        self._emptied = asyncio.Event()
        self._emptied.set()
        self._shared = shared
        self._spreading: Spreading | None = None

    @property
    def connections(self) -> int:
        """Open connections."""
        return len(self._connections)

    def listen(self, host: str, port: int) -> int:
        """Bind every address of `host`, or `unix:PATH`, and accept; returns the port.

        Raises `RuntimeError` when it cannot be bound.
        """
        try:
            self._sockets, port = bind_sockets(host, port)
            if self._shared is not None:
                # A name no longer than the local admin socket's, whose path fits (107 bytes, unix(7)).
                name = f"{self._shared.listener[0]}{port}"
                self._spreading = Spreading(self._shared.directory, name, self._adopt)
        except OSError as failed:
            self._close_sockets()
            raise RuntimeError(f"cannot listen on {host}:{port}: {failed}") from failed
        for bound in self._sockets:
            bound.listen(_BACKLOG)
            self._loop.add_reader(bound, self._accept, bound)
        self._keep_ticking()
        return port

    async def stop(self, grace: float) -> None:
        """Take no new connections, tell the others to go elsewhere, and end them when their calls have, or after `grace`."""
        self._stopping = True
        if self._spreading is not None:
            self._spreading.leave()
            for bound in self._sockets:
                self._accept(bound, _BACKLOG)  # what the kernel has given this process already
        self._close_sockets()
        now = self._loop.time()
        for one in list(self._connections):
            one.drain(now, grace)
        with suppress(TimeoutError):
            async with asyncio.timeout(grace):
                await self._emptied.wait()
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
                async with asyncio.timeout(_TICK_SECONDS):
                    await self._emptied.wait()
            for one in list(self._connections):
                one.abort()
        if self._spreading is not None:
            self._spreading.close()
        if self.running:
            # Cancelled calls still write their audit records.
            await asyncio.wait(set(self.running), timeout=_STOP_SECONDS)

    def _close_sockets(self) -> None:
        for bound in self._sockets:
            self._loop.remove_reader(bound)
        close_sockets(self._sockets)

    def _accept(self, bound: socket.socket, most: int = _ACCEPTS_PER_TURN) -> None:
        for _ in range(most):
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
            if self._spreading is None or not self._spreading.place(accepted, self._load):
                self._serve(accepted, address)

    def _load(self) -> int:
        """What other workers compare with their connections."""
        return _MOST_CONNECTIONS if self._stopping else len(self._connections)

    def _adopt(self, accepted: socket.socket) -> None:
        """Serve a connection that another worker has accepted."""
        try:
            address = accepted.getpeername()
        except OSError:
            accepted.close()  # the peer is gone
        else:
            if not self._stopping or self._spreading is None or not self._spreading.place(accepted, self._load):
                self._serve(accepted, address)
        self._tell()  # also of one that is not served: the worker that handed it over has counted it

    def _serve(self, accepted: socket.socket, address: tuple[str, int] | str) -> None:
        if self._stopping or len(self._connections) >= self.limits.connections:
            accepted.close()
            return
        self._accepted += 1
        made = Transport(self, peer_of(accepted.family, address, self._accepted))
        if self._of_address[made.address] >= self.limits.connections_per_address:
            _log.info("an address has too many connections", address=made.address)
            accepted.close()
            return
        if len(self.handshaking) >= self.limits.handshakes:
            oldest = next(iter(self.handshaking))
            del self.handshaking[oldest]
            oldest.abort()
        accepted.setblocking(False)
        with suppress(OSError):
            accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._connections.add(made)
        self._of_address[made.address] += 1
        self._emptied.clear()
        self._tell()
        self._keep_ticking()
        task: asyncio.Task[object] = self._loop.create_task(self._open(accepted, made))
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    def _tell(self) -> None:
        if self._spreading is not None and not self._stopping:
            self._spreading.tell(len(self._connections))

    async def _open(self, accepted: socket.socket, made: "Transport") -> None:
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
            try:
                one.tick(now)
            except Exception:  # noqa: BLE001  # the others' time goes on
                _log.exception("a connection is given up")
                one.abort()
        self._tidy(now)
        if self._spreading is not None and self._spreading.untold:
            self._tell()
        self._ticking = None
        self._keep_ticking()

    def _keep_ticking(self) -> None:
        untold = self._spreading is not None and self._spreading.untold
        if self._ticking is None and (self._connections or self._standings or self._slow or untold):
            self._ticking = self._loop.call_at((self._loop.time() // _TICK_SECONDS + 1) * _TICK_SECONDS, self._tick)

    def turn(self, one: "Transport") -> None:
        """Go on with a handshake, a few in each turn of the loop."""
        until = self._slow.get(one.address)
        if until is not None:
            if self._loop.time() < until:
                self._slow_ready.append(one)
                if len(self._slow_ready) == 1:
                    self._loop.call_later(_SLOW_INTERVAL, self._shake_slowly)
                return
            del self._slow[one.address]
        self.ready.append(one)
        if not self._turning:
            self._turning = True
            self._loop.call_soon(self._shake_hands)

    def _shake_hands(self) -> None:
        for _ in range(_HANDSHAKES_PER_TURN):
            _shake_next(self.ready)
        self._turning = bool(self.ready)
        if self._turning:
            self._loop.call_soon(self._shake_hands)

    def _shake_slowly(self) -> None:
        _shake_next(self._slow_ready)
        if self._slow_ready:
            self._loop.call_later(_SLOW_INTERVAL, self._shake_slowly)

    def standing(self, name: str) -> Standing:
        """Return what is known of a caller, by its identity or its address."""
        found = self._standings.get(name)
        if found is None:
            found = self._standings[name] = Standing(self.limits.connection, self._loop.time())
        return found

    def rest(self, one: "Transport", standing: Standing) -> None:
        """Let a connection read again when it is its turn among those of its caller."""
        if (waiting := self._resting.get(standing)) is not None:
            waiting.append(one)
            return
        self._resting[standing] = deque((one,))
        self._loop.call_later(standing.rest(self._loop.time()), self._end_rest, standing)

    def _end_rest(self, standing: Standing) -> None:
        """Let one connection go on, and the next when what it reads is paid for."""
        waiting, left = self._resting[standing], standing.rest(self._loop.time())
        if not left:
            waiting.popleft().go_on()
        if waiting:
            self._loop.call_later(max(left, _REST_INTERVAL), self._end_rest, standing)
        else:
            del self._resting[standing]

    def slow_down(self, address: str) -> None:
        """Let handshakes of an address wait for a while."""
        if len(self._slow) < _MOST_KNOWN:
            self._slow[address] = self._loop.time() + _SLOW_SECONDS

    def _tidy(self, now: float) -> None:
        """Forget the callers against whom nothing is known, and what is over."""
        for name, standing in list(self._standings.items()):
            open_ = name in self.of_peer or name in self._of_address
            if not open_ and (standing.clean(now) or len(self._standings) > _MOST_KNOWN):
                del self._standings[name]
        for address, until in list(self._slow.items()):
            if now >= until:
                del self._slow[address]

    def forget(self, one: "Transport") -> None:
        """Count a connection that has ended."""
        if one not in self._connections:
            return
        self._connections.discard(one)
        self._of_address[one.address] -= 1
        if not self._of_address[one.address]:
            del self._of_address[one.address]
        self.handshaking.pop(one, None)
        self._tell()
        if not self._connections:
            self._emptied.set()


def _shake_next(waiting: deque[Transport]) -> None:
    """Go on with the first handshake whose connection has not ended meanwhile."""
    while waiting and not waiting.popleft().shake_hands():
        pass
