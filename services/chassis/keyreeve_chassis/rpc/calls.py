"""The calls of one connection as asyncio tasks, under the guard."""

import asyncio
import weakref
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Hashable, Iterable
from contextlib import suppress
from functools import partial
from typing import Any, Protocol

import structlog

from keyreeve.errors import KeyreeveError
from keyreeve_chassis.guard.call import AuthContext, Metadata
from keyreeve_chassis.guard.failures import Refusal
from keyreeve_chassis.guard.route import Route, ServeUnary
from keyreeve_chassis.rpc import wire
from keyreeve_chassis.rpc.connection import GrpcConnection
from keyreeve_chassis.rpc.stream import Stream

_DEADLINE_SLACK = 0.001
"""The loop's timers may fire a moment early, and a call that is cancelled at its deadline must see it as past."""

_FIRST_REQUEST_SECONDS = 0.1

_log = structlog.get_logger(__name__)


class Routes(Protocol):
    """Who knows how to run the calls of each method: a guard."""

    def route(self, name: str) -> Route:
        """Return how to run the calls of a method; unknown ones are refused by what is returned."""
        ...


class RunningCall:
    """A `guard.Context`: one call while it is worked on."""

    __slots__ = ("_calls", "_stream", "_until", "_waiter", "auth", "task", "timer")

    def __init__(self, calls: "ConnectionCalls", stream: Stream, until: float | None) -> None:
        self._calls = calls
        self._stream = stream
        self._until = until
        self._waiter: asyncio.Future[None] | None = None
        self.auth = calls.auth
        self.task: asyncio.Task[None] | None = None
        self.timer: asyncio.TimerHandle | None = None

    @property
    def peer(self) -> str:
        return self._calls.peer

    @property
    def metadata(self) -> Metadata:
        return self._stream.head.metadata

    def time_remaining(self) -> float | None:
        """Seconds until the deadline; None: the call has none."""
        return None if self._until is None else self._until - self._calls.loop.time()

    async def write(self, message: bytes) -> None:
        """Send one message; waits while the peer does not read."""
        connection, stream = self._calls.connection, self._stream
        connection.send(stream, message)
        while connection.must_wait(stream):
            self._calls.flush()
            if not connection.must_wait(stream):
                break
            await self._wait()
        else:
            self._calls.schedule()

    def set_metadata(
        self,
        *,
        initial: Iterable[tuple[str, str | bytes]] | None = None,
        trailing: Iterable[tuple[str, str | bytes]] | None = None,
    ) -> None:
        """Set metadata of the answer: what goes before the first message, and what goes with the status.

        Raises `ValueError` for keys and values that gRPC does not allow, and when the first message has been sent.
        """
        stream = self._stream
        if initial is not None:
            if stream.headers_sent:
                raise ValueError("the initial metadata has been sent")
            stream.initial = wire.encode_metadata(initial)
        if trailing is not None:
            stream.trailing = wire.encode_metadata(trailing)

    async def requests(self) -> AsyncIterator[bytes]:
        """Yield the requests of a stream of them."""
        connection, stream = self._calls.connection, self._stream
        while not stream.gone:
            message = connection.take_request(stream)
            if message is not None:
                self._calls.schedule()
                yield message
            elif stream.ended:
                return
            else:
                await self._wait()

    async def first_request(self) -> None:
        """Wait a moment for the first bytes of a request."""
        # grpcio's client reports INTERNAL instead of the status when a stream ends before its first message is written.
        stream, until = self._stream, self._calls.loop.time() + _FIRST_REQUEST_SECONDS
        with suppress(TimeoutError):
            async with asyncio.timeout_at(until):
                while not (stream.messages or stream.ended or stream.gone or stream.reader.held):
                    await self._wait()

    async def _wait(self) -> None:
        self._waiter = self._calls.loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def wake(self) -> None:
        """Let it look again."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


MOST_STARTS = 16
"""Calls that begin between two looks at the sockets: one that is refused takes 0.1 to 0.2 ms, most others more."""


class Starts:
    """Lets calls begin in rotation over their callers: one that comes behind hundreds of another caller's does not wait for them.

    Without it a turn of the event loop would begin all that has arrived: thousands from a caller with many connections.
    """

    def __init__(self, most: int = MOST_STARTS) -> None:
        """Take how many begin in one turn of the event loop."""
        self._most = most
        self._begun = 0
        self._waiting: dict[Hashable, deque[asyncio.Future[None]]] = {}
        """Calls of each caller; the first caller is next."""
        self._ticking = False
        self._loop = asyncio.get_running_loop()

    def next(self, caller: Hashable) -> "asyncio.Future[None] | None":
        """Return what a call waits for before it begins; None: it begins at once."""
        if not self._ticking:
            self._ticking = True
            self._loop.call_soon(self._tick)
        if self._begun < self._most and not self._waiting:
            self._begun += 1
            return None
        turn: asyncio.Future[None] = self._loop.create_future()
        self._waiting.setdefault(caller, deque()).append(turn)
        return turn

    def _tick(self) -> None:
        self._begun = 0
        while self._waiting and self._begun < self._most:
            caller = next(iter(self._waiting))
            theirs = self._waiting.pop(caller)
            turn = theirs.popleft()
            if not turn.done():
                turn.set_result(None)
                self._begun += 1
            if theirs:
                self._waiting[caller] = theirs
        self._ticking = self._begun > 0
        if self._ticking:
            self._loop.call_soon(self._tick)


class ConnectionCalls:
    """Runs the calls of one connection: a `connection.Calls`."""

    def __init__(
        self,
        guard: Routes,
        peer: str,
        auth: AuthContext,
        *,
        flush: Callable[[], None],
        running: "set[asyncio.Task[None]]",
        starts: Starts,
    ) -> None:
        """Take who is on the other end, how to send what is ready, where to note the tasks that run, and when they begin."""
        self._running = running
        self._starts = starts
        self._guard = guard
        self.peer = peer
        self.auth = auth
        self.flush = flush
        self.loop = asyncio.get_running_loop()
        self._connection: weakref.ref[GrpcConnection]
        self._scheduled = False

    @property
    def connection(self) -> GrpcConnection:
        """The connection, which lives as long as its transport or one of its streams."""
        found = self._connection()
        assert found is not None, "a stream that is worked on keeps it"
        return found

    @connection.setter
    def connection(self, connection: GrpcConnection) -> None:
        # Not to be a cycle: what a connection took is free when it ends, not when the garbage collector comes by.
        self._connection = weakref.ref(connection)

    def schedule(self) -> None:
        """Send what is ready once everything that can run now has run."""
        if not self._scheduled:
            self._scheduled = True
            self.loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._scheduled = False
        self.flush()

    # --- What the connection asks for ---------------------------------------------------------------------------------

    def route(self, path: str) -> Route:
        """Return how to run the calls of a method."""
        return self._guard.route(path)

    def check(self, stream: Stream) -> KeyreeveError | None:
        """Decide by the headers alone whether the call is refused."""
        return stream.route.check(self._call(stream))

    def start(self, stream: Stream, request: bytes | None) -> None:
        """Run a call."""
        call = self._call(stream)
        route = stream.route
        if request is not None and route.unary is not None:
            self._run(stream, call, self._unary(stream, route.unary, request, call))
        else:
            assert route.stream is not None, "the kinds of calls that are not unary are streams"
            requests = call.requests() if request is None else request
            self._run(stream, call, self._streaming(stream, partial(route.stream, requests, call)))

    def refuse(self, stream: Stream, error: KeyreeveError) -> None:
        """Record and answer a call that `check` has refused."""
        call = self._call(stream)
        self._run(stream, call, self._streaming(stream, partial(self._refuse, stream, error, call)))

    async def _refuse(self, stream: Stream, error: KeyreeveError, call: RunningCall) -> Refusal | None:
        if not stream.single:
            await call.first_request()
        return await stream.route.refuse(error, call)

    def wake(self, stream: Stream) -> None:
        """Let a call look for what it waits for."""
        if isinstance(stream.call, RunningCall):
            stream.call.wake()

    def cancel(self, stream: Stream) -> None:
        """Stop a call."""
        if isinstance(stream.call, RunningCall) and stream.call.task is not None:
            stream.call.task.cancel()

    # --- Running ------------------------------------------------------------------------------------------------------

    def _call(self, stream: Stream) -> RunningCall:
        if isinstance(stream.call, RunningCall):
            return stream.call
        timeout = stream.head.timeout
        call = stream.call = RunningCall(self, stream, None if timeout is None else self.loop.time() + timeout)
        return call

    def _run(self, stream: Stream, call: RunningCall, work: Coroutine[Any, Any, None]) -> None:
        remaining = call.time_remaining()
        if remaining is not None:
            at = self.loop.time() + max(remaining, 0) + _DEADLINE_SLACK
            call.timer = self.loop.call_at(at, self._deadline_passed, stream)
        call.task = self.loop.create_task(work)
        self._running.add(call.task)
        # Not the end of `work`: a task that is cancelled before its first step runs nothing of it.
        call.task.add_done_callback(partial(self._over, stream))

    def _deadline_passed(self, stream: Stream) -> None:
        self.connection.fail(stream, wire.DEADLINE_EXCEEDED, "the deadline has passed")
        self.schedule()

    async def _unary(self, stream: Stream, serve: ServeUnary, request: bytes, call: RunningCall) -> None:
        if (turn := self._starts.next(stream.caller)) is not None:
            await turn
        answer = await serve(request, call)
        if isinstance(answer, bytes):
            self.connection.respond(stream, answer)
        else:
            self._finish(stream, answer)
        self.schedule()

    async def _streaming(self, stream: Stream, serve: Callable[[], Awaitable[Refusal | None]]) -> None:
        refusal = await serve()
        if refusal is None:
            self.connection.finish(stream, wire.OK, "", ())
        else:
            self._finish(stream, refusal)
        self.schedule()

    def _finish(self, stream: Stream, refusal: Refusal) -> None:
        self.connection.finish(stream, *refusal)

    def _over(self, stream: Stream, task: "asyncio.Task[None]") -> None:
        self._running.discard(task)
        call, stream.call = stream.call, None
        if isinstance(call, RunningCall) and call.timer is not None:
            call.timer.cancel()
        if task.cancelled():
            self.connection.finish(stream, wire.CANCELLED, "the call was cancelled", ())
        elif (failure := task.exception()) is not None:
            _log.error("a call failed outside its handler", method=stream.head.path, exc_info=failure)
            self.connection.finish(stream, wire.INTERNAL, "internal error", ())
        self.connection.done(stream)
        self.schedule()
