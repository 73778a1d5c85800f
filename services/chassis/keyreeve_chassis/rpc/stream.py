"""One call on the wire, and the port to who runs it."""

from collections import deque
from collections.abc import Hashable, Iterator, Sequence
from typing import Protocol

from keyreeve.errors import KeyreeveError
from keyreeve_chassis.guard.route import Route
from keyreeve_chassis.guard.router import Kind
from keyreeve_chassis.rpc.http2.port import STREAM_WINDOW, Http2Connection
from keyreeve_chassis.rpc.limits import ByteBudget
from keyreeve_chassis.rpc.wire import Header, MessageReader, RequestHead

_SINGLE = frozenset({Kind.UNARY, Kind.SERVER_STREAM})
_CALL_BYTES = 2 * 1024
_FIELD_BYTES = 192
"""What an open call and each field of its metadata take here beside their own bytes (measured on CPython 3.11)."""


class Owner(Protocol):
    """The connection of a stream."""

    def give_up(self, stream: "Stream") -> None:
        """Let go of all that is buffered for a call."""
        ...


class Stream:
    """One call on the wire."""

    __slots__ = (
        "_owner",
        "call",
        "caller",
        "checked",
        "ended",
        "finished",
        "gone",
        "head",
        "headers_sent",
        "held",
        "id",
        "initial",
        "messages",
        "reader",
        "reserved",
        "route",
        "running",
        "since",
        "single",
        "trailing",
        "unacknowledged",
        "unsent",
        "unsent_since",
        "window",
    )

    def __init__(
        self,
        owner: Owner,
        number: int,
        head: RequestHead,
        route: Route,
        *,
        caller: Hashable,
        now: float,
        most: int,
    ) -> None:
        self._owner: Owner | None = owner
        self.caller = caller
        """Who is charged for what it holds."""
        self.id = number
        self.head = head
        self.route = route
        self.since = now
        """When the message that is arriving began."""
        self.reader = MessageReader(most)
        self.messages: deque[bytes] = deque()
        self.single = route.kind in _SINGLE
        self.ended = False
        """The peer has sent everything."""
        self.checked = False
        """Its headers were checked, and the caller is admitted."""
        self.running = False
        """A handler works on it, though it may be over on the wire."""
        self.headers_sent = False
        self.finished = False
        """Its trailers have been handed over."""
        self.gone = False
        """The peer takes no answer any more."""
        self.initial: Sequence[Header] = ()
        self.trailing: Sequence[Header] = ()
        """The handler's own metadata, before and after its answers."""
        self.window = STREAM_WINDOW
        self.unacknowledged = 0
        self.reserved = 0
        self.held = 0
        """Bytes of its unfinished and waiting requests."""
        self.unsent = 0
        self.unsent_since = now
        self.call: object | None = None
        """For who runs it."""

    def count_held(self) -> None:
        """Count the bytes that it holds here of what the peer has sent."""
        self.held = self.reader.held + sum(len(one) for one in self.messages)
        if not self.running:  # the guard bounds the number of those that run
            self.held += _CALL_BYTES + self.head.size + _FIELD_BYTES * len(self.head.metadata)

    def give_up(self) -> None:
        """Answer that too much is buffered here, and let go."""
        if self._owner is not None:
            self._owner.give_up(self)

    def part(self) -> None:
        """Part from a connection that is over: the error that ended a call keeps its stream until a garbage collection."""
        if self.gone:
            self._owner = None


class Calls(Protocol):
    """Who runs the calls of a connection."""

    def route(self, path: str) -> Route: ...

    def check(self, stream: Stream) -> KeyreeveError | None:
        """Decide by the headers alone whether the call is refused."""
        ...

    def start(self, stream: Stream, request: bytes | None) -> None:
        """Run a call; None: its requests arrive as `Stream.messages`. `done` must follow."""
        ...

    def refuse(self, stream: Stream, error: KeyreeveError) -> None:
        """Record and answer a call that `check` has refused. `done` must follow."""
        ...

    def wake(self, stream: Stream) -> None:
        """Requests, their end, or room for answers: whatever the call waits for."""
        ...

    def cancel(self, stream: Stream) -> None:
        """Stop a call that nobody waits for any more; at most once."""
        ...

    def schedule(self) -> None:
        """Send soon what is ready, though nothing was received."""
        ...


class Unsent:
    """The streams of one connection whose answers the peer has not taken; what waits counts in the budget."""

    def __init__(self, http2: Http2Connection, budget: ByteBudget) -> None:
        """Take the engine that knows how much waits."""
        self._http2 = http2
        self._budget = budget
        self._streams: dict[int, Stream] = {}

    def __len__(self) -> int:
        return len(self._streams)

    def __contains__(self, number: object) -> bool:
        return number in self._streams

    def __iter__(self) -> Iterator[Stream]:
        return iter(list(self._streams.values()))

    def add(self, stream: Stream, now: float) -> None:
        """Note that something is sent on a stream."""
        if stream.id not in self._streams:
            stream.unsent_since = now
            stream.unsent = 0
            self._streams[stream.id] = stream

    def count(self, now: float) -> None:
        """Count what waits after all that can be sent was sent."""
        if self._http2.unsent() == 0:
            self.clear()
            return
        for stream in self:
            unsent = self._http2.unsent(stream.id)
            if unsent != stream.unsent:
                stream.unsent_since = now
                stream.unsent = unsent
            if unsent:
                self._budget.hold(stream, stream.held + unsent)
            else:
                self.drop(stream.id)

    def stalled(self, now: float, seconds: float) -> list[Stream]:
        """Return the streams of which nothing was taken for some time."""
        return [stream for stream in self if stream.unsent and now - stream.unsent_since > seconds]

    def drop(self, number: int) -> None:
        """Forget a stream."""
        stream = self._streams.pop(number, None)
        if stream is not None:
            stream.unsent = 0
            self._budget.hold(stream, stream.held)

    def clear(self) -> None:
        """Forget all streams."""
        for number in list(self._streams):
            self.drop(number)
