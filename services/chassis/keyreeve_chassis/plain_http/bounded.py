"""A TCP listener whose connections are bounded in number, for each address, and in the time in which they do nothing.

Requests that come together are handed over one at a time, with room between two for what matters more.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from keyreeve_chassis.guard.admission import address_of
from keyreeve_chassis.rpc.sockets.binding import peer_of

_BACKLOG = 128
_TICK_SECONDS = 1.0
REQUEST_INTERVAL = 0.0025
"""From one request to the next: what else the process has to do, such as commits, goes on between them."""
_MOST_BYTES = 96 * 1024
"""Of one connection that wait for their turn; the largest request has 64 KiB."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much one listener accepts. Durations in seconds."""

    connections: int
    """Beyond it the connection that has waited longest without a request in progress is closed."""
    per_address: int | None
    """Connections of one address (for IPv6: one /64); beyond it a new one is closed at once. None: as many as of all."""
    idle: float
    """For a request to arrive, after the connection's start and after each answer."""
    stall: float
    """For an answer to be taken."""


class BoundedListener:
    """Accepts connections, and serves each by a protocol of `make`."""

    def __init__(self, bounds: Bounds, make: Callable[[], asyncio.Protocol]) -> None:
        """Take the bounds and what serves a connection."""
        self._bounds = bounds
        self._make = make
        self._loop = asyncio.get_running_loop()
        self._open: dict[asyncio.BaseTransport, _Bounded] = {}
        """In the order in which they began to wait."""
        self._of: Counter[str] = Counter()
        self._arrived: deque[_Bounded] = deque()
        """The connections of which something has arrived that waits for its turn."""
        self._next_turn = 0.0
        self._server: asyncio.Server | None = None
        self._ticking: asyncio.TimerHandle | None = None
        """Only while there are connections."""

    async def listen(self, host: str, port: int) -> int:
        """Bind and accept; returns the port. Raises `OSError`."""
        self._server = await self._loop.create_server(
            lambda: _Bounded(self, self._make()), host, port, backlog=_BACKLOG
        )
        bound: int = self._server.sockets[0].getsockname()[1]
        return bound

    async def stop(self) -> None:
        """Accept no more, and close what is open."""
        if self._ticking is not None:
            self._ticking.cancel()
        if self._server is not None:
            self._server.close()
        for transport in list(self._open):
            transport.abort()  # type: ignore[attr-defined]  # transports of streams
        await asyncio.sleep(0)  # the transports report that they are closed

    @property
    def connections(self) -> int:
        """Open connections."""
        return len(self._open)

    @contextmanager
    def busy(self, transport: asyncio.BaseTransport | None) -> Iterator[None]:
        """Count a request as in progress while the context lasts: its connection does not wait for one."""
        if transport is None or (one := self._open.get(transport)) is None:
            yield
            return
        one.busy += 1
        try:
            yield
        finally:
            one.busy -= 1
            one.since = self._loop.time()
            if transport in self._open:
                self._open[transport] = self._open.pop(transport)

    def take_turn(self, one: "_Bounded") -> None:
        """Have a connection pass on what has arrived, when it is its turn: at once, unless requests come all together."""
        now = self._loop.time()
        if not self._arrived and now >= self._next_turn:
            self._next_turn = now + REQUEST_INTERVAL
            one.pass_on_arrived()
            return
        self._arrived.append(one)
        if len(self._arrived) == 1:
            self._loop.call_at(self._next_turn, self._turn)

    def _turn(self) -> None:
        self._arrived.popleft().pass_on_arrived()
        self._next_turn = self._loop.time() + REQUEST_INTERVAL
        if self._arrived:
            self._loop.call_at(self._next_turn, self._turn)

    def admit(self, one: "_Bounded", transport: asyncio.BaseTransport) -> bool:
        """Count a new connection; False when its address has too many, or all others are busy."""
        if self._bounds.per_address is not None and self._of[one.address] >= self._bounds.per_address:
            return False
        if len(self._open) >= self._bounds.connections:
            waiting = next((known for known, bounded in self._open.items() if not bounded.busy), None)
            if waiting is None:
                return False
            self.forget(waiting)
            waiting.abort()  # type: ignore[attr-defined]
        self._of[one.address] += 1
        self._open[transport] = one
        if self._ticking is None:
            self._ticking = self._loop.call_later(_TICK_SECONDS, self._tick)
        return True

    def forget(self, transport: asyncio.BaseTransport | None) -> None:
        """Count a connection that has ended."""
        if transport is None or (one := self._open.pop(transport, None)) is None:
            return
        self._of[one.address] -= 1
        if not self._of[one.address]:
            del self._of[one.address]

    def _tick(self) -> None:
        now = self._loop.time()
        for transport, one in list(self._open.items()):
            most = self._bounds.stall if transport.get_write_buffer_size() else self._bounds.idle  # type: ignore[attr-defined]
            if not one.busy and now - one.since > most:
                transport.abort()  # type: ignore[attr-defined]
        self._ticking = self._loop.call_later(_TICK_SECONDS, self._tick) if self._open else None


class _Bounded(asyncio.Protocol):
    """Passes everything on to the protocol that serves an admitted connection."""

    __slots__ = ("_arrived", "_inner", "_owner", "_transport", "address", "busy", "since")

    def __init__(self, owner: BoundedListener, inner: asyncio.Protocol) -> None:
        self._owner = owner
        self._inner: asyncio.Protocol | None = inner
        self._transport: asyncio.BaseTransport | None = None
        self._arrived = b""
        self.address = ""
        self.busy = 0
        self.since = asyncio.get_running_loop().time()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        plain = transport.get_extra_info("socket")
        self.address = address_of(peer_of(plain.family, transport.get_extra_info("peername"), 0))
        if self._owner.admit(self, transport):
            self._pass_on().connection_made(transport)
        else:
            self._inner = None
            transport.abort()  # type: ignore[attr-defined]

    def _pass_on(self) -> asyncio.Protocol:
        assert self._inner is not None, "a connection that is not admitted reads nothing"
        return self._inner

    def data_received(self, data: bytes) -> None:
        if self._arrived:
            self._arrived += data
            if len(self._arrived) > _MOST_BYTES and self._transport is not None:
                self._transport.abort()  # type: ignore[attr-defined]
            return
        self._arrived = data
        self._owner.take_turn(self)

    def pass_on_arrived(self) -> None:
        """Pass on what has arrived."""
        data, self._arrived = self._arrived, b""
        if data and self._inner is not None:
            self._inner.data_received(data)

    def eof_received(self) -> bool | None:
        self.pass_on_arrived()
        return None if self._inner is None else self._inner.eof_received()

    def pause_writing(self) -> None:
        if self._inner is not None:
            self._inner.pause_writing()

    def resume_writing(self) -> None:
        if self._inner is not None:
            self._inner.resume_writing()

    def connection_lost(self, failure: Exception | None) -> None:
        self._owner.forget(self._transport)
        inner, self._inner = self._inner, None
        if inner is not None:
            inner.connection_lost(failure)
