"""One HTTP/2 connection with its gRPC calls: bytes in, bytes out, the time passed in. No I/O, no event loop.

What is spent on a peer before its caller is known is bounded here: the window of a stream opens beyond 64 KiB only for
an admitted caller and a known method, and who is refused is refused at the headers.
"""

from collections.abc import Sequence
from typing import Final

from keyreeve_chassis.rpc import wire
from keyreeve_chassis.rpc.draining import Draining
from keyreeve_chassis.rpc.http2.port import ConnectionBroken, ErrorCode, Http2Connection
from keyreeve_chassis.rpc.limits import ByteBudget, Conduct, Due, Lifetime
from keyreeve_chassis.rpc.refusals import answer_no_call
from keyreeve_chassis.rpc.stream import Calls, Stream, Unsent
from keyreeve_chassis.rpc.wire import Header, WireError

MOST_UNSENT: Final = 64 * 1024
"""Bytes of one stream that wait for the peer before its handler waits too."""
_INPUT_BYTES = 16 * 1024
_OUTPUT_BYTES = 256 * 1024


class GrpcConnection:
    """The state of one connection. `receive`, `output` and `tick` drive it; the rest is for who runs its calls."""

    def __init__(self, http2: Http2Connection, conduct: Conduct, budget: ByteBudget, calls: Calls, now: float) -> None:
        """Take the engine, whose SETTINGS are queued already, and what counts what the peer does."""
        self._http2 = http2
        self._limits = limits = conduct.limits
        self._conduct = conduct
        self._budget = budget
        self._calls = calls
        self._now = now
        self._lifetime = Lifetime(limits, now)
        self._draining = Draining(http2)
        self._streams: dict[int, Stream] = {}
        self._touched: dict[int, Stream] = {}
        self._waiting: dict[int, Stream] = {}
        self._sending = Unsent(http2, budget)
        self._closing: dict[int, Stream | None] = {}
        self.closed = False
        """Nothing is read any more; the transport ends once `output` is empty."""
        self.abused = False
        """It was closed because the peer did too much of something."""

    # --- Driving ------------------------------------------------------------------------------------------------------

    def receive(self, data: bytes, now: float) -> None:
        """Take in bytes."""
        if self.closed:
            return
        self._now = now
        self._lifetime.heard(now)
        try:
            for at in range(0, len(data), _INPUT_BYTES):
                if self.closed:  # too much of something: the rest of the flood is not looked at
                    return
                self._http2.receive(data[at : at + _INPUT_BYTES], self)
        except ConnectionBroken:
            self.lose()
            return
        touched, self._touched = self._touched, {}
        for stream in touched.values():
            self._settle(stream)
        self.wake_senders()

    def output(self, now: float) -> bytes:
        """Return bytes to send; call again until there are none."""
        self._now = now
        before = self._http2.unsent() if self._sending else 0
        try:
            data = self._http2.output(self, _OUTPUT_BYTES)
        except ConnectionBroken:
            self.lose()
            return b""
        if before and self._http2.unsent() < before:
            self._conduct.answered()
        if self._closing:
            for number, stream in list(self._closing.items()):
                if self._http2.unsent(number) == 0:
                    # The answer was complete without the rest of the request (RFC 9113 8.1).
                    self._http2.reset(number, ErrorCode.NO_ERROR)
                    del self._closing[number]
                    if stream is not None:
                        self._acknowledge(stream)
        if not data:
            self.count_unsent(now)
        if not data:
            self._go_on_draining(now)
        if self._http2.finished and not data:
            self.closed = True
        return data

    def count_unsent(self, now: float) -> None:
        """Count what waits, when `output` has returned all that can be sent or the transport takes nothing more."""
        if self._sending:
            self._sending.count(now)

    def tick(self, now: float) -> None:
        """Apply what depends on time alone; about once a second."""
        if self.closed:
            return
        self._now = now
        limits = self._limits
        for stream in list(self._waiting.values()):
            if now - stream.since > limits.message_timeout:
                why = f"the request did not arrive within {limits.message_timeout:g} s"
                self.fail(stream, wire.DEADLINE_EXCEEDED, why)
        self.count_unsent(now)
        for stream in self._sending.stalled(now, limits.stall_timeout):
            self._give_up_sending(stream, ErrorCode.CANCEL)
        if self._draining.begun:
            self._go_on_draining(now)
            return
        due = self._lifetime.due(now, busy=bool(self._streams or self._sending))
        if due is Due.CLOSE:
            self.lose()
        elif due is Due.DRAIN:
            self.drain(now, limits.grace)
        elif due is Due.PING:
            self._http2.ping()

    def drain(self, now: float, grace: float) -> None:
        """Ask the peer to go elsewhere, and end when its calls have ended, `grace` seconds from now at the latest."""
        self._draining.begin(now, grace)

    def _go_on_draining(self, now: float) -> None:
        if self._draining.over(now, busy=bool(self._streams or self._sending or self._closing)):
            self.lose()

    def lose(self) -> None:
        """Read nothing more, and stop all calls: nobody waits for anything."""
        self.closed = True
        for stream in list(self._streams.values()):
            self._lose(stream)
        for stream in self._waiting.values():
            self._budget.release(stream)
        self._sending.clear()
        self._closing.clear()
        self._waiting.clear()
        self._touched.clear()

    def _allow(self, allowed: bool, what: bytes) -> None:  # what was decided
        """End the connection of a peer that does too much of something."""
        if not allowed and not self.closed:
            self.abused = True
            self._http2.go_away(ErrorCode.ENHANCE_YOUR_CALM, what)
            self.lose()

    # --- What the engine reports --------------------------------------------------------------------------------------

    def on_request(self, stream: int, headers: Sequence[Header], *, end: bool) -> None:
        """Open a call."""
        if self.closed:
            return
        if len(self._streams) >= 2 * self._limits.streams:
            # The engine holds the peer to `streams`; calls that it has reset count until their handlers have ended.
            self._charge()
            self._http2.reset(stream, ErrorCode.REFUSED_STREAM)
            return
        try:
            head = wire.read_request(headers, self._limits.metadata_bytes)
        except WireError as refused:
            self._charge()
            self._answer_no_call(stream, refused, ended=end)
            return
        route = self._calls.route(head.path)
        most = min(self._limits.request_bytes, route.request_bytes)
        opened = Stream(self, stream, head, route, caller=self._conduct.standing, now=self._now, most=most)
        opened.ended = end
        self._streams[stream] = self._touched[stream] = opened

    def on_data(self, stream: int, data: bytes, *, end: bool) -> None:
        """Take in a part of a request."""
        found = self._streams.get(stream)
        if not data and not end:
            self._allow(self._conduct.empty.take(self._now), b"empty_frames")
            return
        if found is None or found.finished or found.gone:
            if data:
                self._http2.acknowledge(stream, len(data))
            return
        found.unacknowledged += len(data)
        self._touched[stream] = found
        try:
            if data:
                self._take_in(found, data)
            if end:
                self._end(found)
        except WireError as broken:
            self._charge()
            self.fail(found, broken.code, broken.message)

    def _take_in(self, stream: Stream, data: bytes) -> None:
        messages = stream.reader.feed(data)
        if messages:
            stream.messages.extend(messages)
            stream.since = self._now
            if stream.single and len(stream.messages) > 1:
                raise WireError(wire.INTERNAL, "a call with one request has sent several")

    def on_end(self, stream: int) -> None:
        """The request is complete."""
        found = self._streams.get(stream)
        if found is None or found.finished or found.gone:
            return
        self._touched[stream] = found
        try:
            self._end(found)
        except WireError as broken:
            self.fail(found, broken.code, broken.message)

    def _end(self, stream: Stream) -> None:
        stream.reader.end()
        stream.ended = True

    def on_reset(self, stream: int) -> None:
        """The peer gives up a call, which costs it something."""
        self._charge()
        self.on_closed(stream)

    def on_closed(self, stream: int) -> None:
        """A stream is over: its handler stops."""
        self._closing.pop(stream, None)
        self._sending.drop(stream)
        found = self._streams.get(stream)
        if found is not None and not found.finished:
            self._lose(found)

    def on_ping(self) -> None:
        """Count pings that come without cause."""
        self._allow(self._conduct.ping(self._now), b"too_many_pings")

    def on_pong(self) -> None:
        """What crossed the announcement of GOAWAY has arrived."""
        self._draining.pong()

    def on_settings(self) -> None:
        """The peer has said what it accepts."""
        self._lifetime.greeted = True
        self._allow(self._conduct.settings.take(self._now), b"too_many_settings")

    def on_window(self) -> None:
        """`receive` looks after it once, for all frames together."""

    def _charge(self) -> None:
        self._allow(self._conduct.reset(self._now), b"too_many_resets")

    # --- Requests -----------------------------------------------------------------------------------------------------

    def _settle(self, stream: Stream) -> None:
        """Decide what to do with a call after everything that has arrived was taken in."""
        if stream.finished or stream.gone:
            return
        if not stream.running:
            if stream.single:
                self._settle_single(stream)
            elif self._admit(stream):
                self._start(stream, None)
        else:
            if stream.checked:
                self._admit(stream)
            self._calls.wake(stream)
        if self._streams.get(stream.id) is not stream:
            self._stop_waiting(stream)
            return
        if not stream.ended and (stream.reader.held or (stream.single and not stream.running)):
            if stream.id not in self._waiting:
                self._waiting[stream.id] = stream
                stream.since = stream.since if stream.single else self._now
        else:
            self._waiting.pop(stream.id, None)
        self._hold(stream)

    def _settle_single(self, stream: Stream) -> None:
        if not stream.ended:
            self._admit(stream)
            return
        if not stream.messages:
            self._charge()
            self.fail(stream, wire.INTERNAL, "the call has ended without a request")
            return
        request = stream.messages.popleft()
        if len(request) > MOST_UNSENT:
            self._budget.release(stream)
            if not self._budget.reserve(stream.caller, len(request)):
                self.fail(stream, wire.RESOURCE_EXHAUSTED, "too many large requests are in progress here")
                return
            stream.reserved = len(request)
        self._acknowledge(stream)
        self._start(stream, request)

    def _admit(self, stream: Stream) -> bool:
        """Whether the caller may go on sending; otherwise the call is being refused."""
        if not stream.checked:
            error = self._calls.check(stream)
            if error is not None:
                stream.running = True
                self._calls.refuse(stream, error)
                return False
            stream.checked = True
        # Unsent credit may be half of a window (libnghttp2 sends WINDOW_UPDATE in halves): a message must fit in the rest.
        if 2 * stream.reader.needed > stream.window:
            stream.window = 2 * stream.reader.needed
            self._http2.widen(stream.id, stream.window)
        return True

    def _start(self, stream: Stream, request: bytes | None) -> None:
        stream.running = True
        self._calls.start(stream, request)

    def _hold(self, stream: Stream) -> None:
        stream.count_held()
        self._budget.hold(stream, stream.held + stream.unsent)

    def _stop_waiting(self, stream: Stream) -> None:
        self._waiting.pop(stream.id, None)
        stream.held = 0
        self._budget.hold(stream, stream.unsent)

    def take_request(self, stream: Stream) -> bytes | None:
        """Return the next request of a stream of them, and let the peer send as much again; None: none has arrived."""
        if not stream.messages:
            return None
        message = stream.messages.popleft()
        count = len(message) + wire.PREFIX_BYTES
        stream.unacknowledged -= count
        self._http2.acknowledge(stream.id, count)
        if not stream.ended:
            self._admit(stream)
        self._hold(stream)
        return message

    def _acknowledge(self, stream: Stream) -> None:
        if stream.unacknowledged:
            self._http2.acknowledge(stream.id, stream.unacknowledged)
            stream.unacknowledged = 0

    # --- Answers ------------------------------------------------------------------------------------------------------

    def respond(self, stream: Stream, message: bytes) -> None:
        """Send the one answer of a call, and its end."""
        self.send(stream, message)
        self.finish(stream, wire.OK, "", ())

    def send(self, stream: Stream, message: bytes) -> None:
        """Send one answer of a call."""
        if stream.finished or stream.gone:
            return
        if not stream.headers_sent:
            self._begin_answer(stream)
        self._http2.send_data(stream.id, wire.frame(message))
        self._sending.add(stream, self._now)

    def _begin_answer(self, stream: Stream) -> None:
        stream.headers_sent = True
        self._http2.send_headers(stream.id, (*wire.RESPONSE, *stream.initial))

    def finish(self, stream: Stream, code: int, message: str, metadata: Sequence[tuple[str, bytes]]) -> None:
        """Send the end of a call."""
        if stream.finished or stream.gone:
            return
        stream.finished = True
        allowed = self._conduct.finish(code, self._now, stream.reserved)
        if code == wire.OK:
            found: Sequence[Header] = wire.SUCCESS
        else:
            found = wire.trailers(code, message, metadata, self._http2.header_list_limit)
        if stream.trailing:
            found = (*found, *stream.trailing)
        if stream.initial and not stream.headers_sent:
            self._begin_answer(stream)
        if stream.headers_sent:
            self._http2.send_trailers(stream.id, found)
        else:
            self._http2.send_headers(stream.id, (*wire.RESPONSE, *found), end=True)
        self._stop_waiting(stream)
        stream.messages.clear()
        stream.reader.drop()
        if stream.ended:
            self._acknowledge(stream)
        else:
            self._closing[stream.id] = stream
        self._forget(stream)
        self._allow(allowed, b"too_many_refused_calls")

    def fail(self, stream: Stream, code: int, message: str) -> None:
        """End a call from this side, with its handler."""
        if stream.finished or stream.gone:
            return
        self.finish(stream, code, message, ())
        if stream.running:
            self._calls.cancel(stream)

    def done(self, stream: Stream) -> None:
        """Nobody works on the call any more."""
        stream.running = False
        if stream.reserved:
            self._budget.free(stream.caller, stream.reserved)
            stream.reserved = 0
        self._forget(stream)
        stream.part()

    def must_wait(self, stream: Stream) -> bool:
        """Whether the peer has not taken what was sent to it, so that its handler waits."""
        return not stream.gone and self._http2.unsent(stream.id) > MOST_UNSENT

    def _answer_no_call(self, stream: int, refused: WireError, *, ended: bool) -> None:
        answer_no_call(self._http2, stream, refused)
        if not ended:
            self._closing[stream] = None  # libnghttp2 drops an answer that waits when its stream is reset

    def give_up(self, stream: Stream) -> None:
        """Let go of all that is buffered for a call."""
        if stream.id in self._sending:
            self._give_up_sending(stream, ErrorCode.ENHANCE_YOUR_CALM)  # RESOURCE_EXHAUSTED for a client of gRPC
        else:
            self.fail(stream, wire.RESOURCE_EXHAUSTED, "too many unfinished calls are buffered here")
        self._calls.schedule()

    def _give_up_sending(self, stream: Stream, code: ErrorCode) -> None:
        self._http2.reset(stream.id, code)
        self._sending.drop(stream.id)
        self._lose(stream)

    def wake_senders(self) -> None:
        """Let those look again who wait for the peer to read."""
        for stream in self._sending:
            if stream.running and not stream.finished:
                self._calls.wake(stream)

    def _lose(self, stream: Stream) -> None:
        if stream.gone:
            return
        stream.gone = True
        stream.messages.clear()
        stream.reader.drop()
        self._stop_waiting(stream)
        self._acknowledge(stream)
        if stream.running and not stream.finished:  # else it was cancelled, and what it still writes must not be
            self._calls.cancel(stream)
        self._forget(stream)

    def _forget(self, stream: Stream) -> None:
        if not stream.running and (stream.finished or stream.gone):
            self._streams.pop(stream.id, None)
            if not self._streams:
                self._lifetime.idle_since = self._now
