"""The HTTP/2 engine in pure Python, through `h2`: for machines without a wheel of `ngh2`."""

from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    PingAckReceived,
    PingReceived,
    RemoteSettingsChanged,
    RequestReceived,
    SettingsAcknowledged,
    StreamEnded,
    StreamReset,
    TrailersReceived,
    WindowUpdated,
)
from h2.exceptions import H2Error
from h2.settings import SettingCodes, Settings
from hyperframe.frame import GoAwayFrame

from keyreeve_chassis.rpc.http2.port import (
    CONNECTION_WINDOW,
    HEADER_SLACK,
    MOST_FIELDS,
    STREAM_WINDOW,
    ConnectionBroken,
    ErrorCode,
    Http2Events,
)
from keyreeve_chassis.rpc.wire import Header

_LAST_STREAM = 2**31 - 1
_PING = b"keyreeve"


@dataclass(slots=True)
class _Outgoing:
    """What waits to be sent on one stream."""

    parts: deque[bytes] = field(default_factory=deque)
    size: int = 0
    trailers: Sequence[Header] | None = None
    end: bool = False


@dataclass(slots=True)
class _Window:
    """What the peer may send on one stream, and what it may send again once that is half of it."""

    size: int = STREAM_WINDOW
    credit: int = 0


class _Adapter:
    """An `Http2Connection`. `h2` sends at once what the windows allow and refuses the rest, so what waits is kept here."""

    def __init__(self, engine: H2Connection, header_bytes: int) -> None:
        self._engine = engine
        self._header_bytes = header_bytes
        self._outgoing: dict[int, _Outgoing] = {}
        self._unsent = 0
        self._windows: dict[int, _Window] = {}
        self._credit = 0
        self._open: dict[int, bool] = {}
        """Streams, and whether the peer has ended its half."""
        self._over: list[int] = []
        self._first = b""
        self._last_stream: int | None = None
        self._finished = False

    # --- In -----------------------------------------------------------------------------------------------------------

    def receive(self, data: bytes, events: Http2Events) -> None:
        try:
            found = self._engine.receive_data(data)
        except (H2Error, ValueError, KeyError, IndexError) as broken:
            self._finished = True
            raise ConnectionBroken(str(broken) or type(broken).__name__) from None
        for event in found:
            self._report(event, events)
        self._report_closed(events)

    def _report(self, event: object, events: Http2Events) -> None:
        kind = type(event)
        if kind is DataReceived:
            self._data(event, events)  # type: ignore[arg-type]
        elif kind is RequestReceived:
            self._request(event, events)  # type: ignore[arg-type]
        elif kind is TrailersReceived:
            events.on_end(event.stream_id)  # type: ignore[attr-defined]
        elif kind is StreamEnded:
            self._ended(event.stream_id)  # type: ignore[attr-defined]
        elif kind is StreamReset:
            self._reset(event, events)  # type: ignore[arg-type]
        elif kind is WindowUpdated:
            events.on_window()
        elif kind is PingReceived:
            events.on_ping()
        elif kind is PingAckReceived:
            events.on_pong()
        elif kind is RemoteSettingsChanged:
            events.on_settings()
        elif kind is SettingsAcknowledged:
            # Lists beyond what was announced still get an answer, up to a limit.
            self._engine.decoder.max_header_list_size = self._header_bytes + HEADER_SLACK
        elif kind is ConnectionTerminated:
            self._finished = True

    def _request(self, event: RequestReceived, events: Http2Events) -> None:
        stream = event.stream_id
        if self._last_stream is not None and stream > self._last_stream:
            self.reset(stream, ErrorCode.REFUSED_STREAM)
            return
        if len(event.headers) > MOST_FIELDS:
            self.go_away(ErrorCode.ENHANCE_YOUR_CALM, b"too many header fields")
            raise ConnectionBroken("too many header fields")
        end = event.stream_ended is not None
        self._open[stream] = end
        self._windows[stream] = _Window()
        events.on_request(stream, [(name, value) for name, value in event.headers], end=end)

    def _data(self, event: DataReceived, events: Http2Events) -> None:
        padding = event.flow_controlled_length - len(event.data)
        if padding:
            self.acknowledge(event.stream_id, padding)
        end = event.stream_ended is not None
        if end:
            self._ended(event.stream_id)
        events.on_data(event.stream_id, event.data, end=end)

    def _reset(self, event: StreamReset, events: Http2Events) -> None:
        self._forget(event.stream_id)
        if event.remote_reset:
            events.on_reset(event.stream_id)
        else:
            events.on_closed(event.stream_id)

    def _ended(self, stream: int) -> None:
        if stream in self._open:
            self._open[stream] = True

    # --- Out ----------------------------------------------------------------------------------------------------------

    def output(self, events: Http2Events, most: int) -> bytes:
        self._send_waiting(most)
        first, self._first = self._first, b""
        data = first + self._engine.data_to_send()
        self._report_closed(events)
        return data

    def _send_waiting(self, most: int) -> None:
        """Send what the windows allow, a frame of each stream in turn."""
        left = most
        sent = True
        while sent and left > 0:
            sent = False
            for stream, waiting in list(self._outgoing.items()):
                try:
                    count = self._send_some(stream, waiting)
                except H2Error:
                    self._forget(stream)
                    continue
                sent = sent or count > 0
                left -= count
                if left <= 0:
                    return

    def _send_some(self, stream: int, waiting: _Outgoing) -> int:
        """Send one frame of a stream; return how many bytes it took."""
        count = 0
        if waiting.size:
            room = min(self._engine.local_flow_control_window(stream), self._engine.max_outbound_frame_size)
            if room <= 0:
                return 0
            part = waiting.parts.popleft()
            if len(part) > room:
                waiting.parts.appendleft(part[room:])
                part = part[:room]
            count = len(part)
            waiting.size -= count
            self._unsent -= count
            last = waiting.end and not waiting.size and waiting.trailers is None
            self._engine.send_data(stream, part, end_stream=last)
        if not waiting.size:
            if waiting.trailers is not None:
                self._engine.send_headers(stream, waiting.trailers, end_stream=True)
            elif not waiting.end:
                del self._outgoing[stream]
                return count
            del self._outgoing[stream]
            self._sent_all(stream)
        return count

    def _sent_all(self, stream: int) -> None:
        if self._open.get(stream):
            self._over.append(stream)

    def _report_closed(self, events: Http2Events) -> None:
        while self._over:
            stream = self._over.pop()
            self._forget(stream)
            events.on_closed(stream)

    def _forget(self, stream: int) -> None:
        self._open.pop(stream, None)
        self._windows.pop(stream, None)
        waiting = self._outgoing.pop(stream, None)
        if waiting is not None:
            self._unsent -= waiting.size

    def send_headers(self, stream: int, headers: Sequence[Header], *, end: bool = False) -> None:
        try:
            self._engine.send_headers(stream, headers, end_stream=end)
        except H2Error:
            return  # the stream is gone
        if end:
            self._sent_all(stream)

    def send_data(self, stream: int, data: bytes, *, end: bool = False) -> None:
        if stream in self._open:
            waiting = self._outgoing.setdefault(stream, _Outgoing())
            if data:
                waiting.parts.append(data)
                waiting.size += len(data)
                self._unsent += len(data)
            waiting.end = end

    def send_trailers(self, stream: int, headers: Sequence[Header]) -> None:
        if stream in self._open:
            waiting = self._outgoing.setdefault(stream, _Outgoing())
            waiting.trailers = headers
            waiting.end = True

    def reset(self, stream: int, code: ErrorCode) -> None:
        with suppress(H2Error):  # the stream is gone
            self._engine.reset_stream(stream, int(code))
        if stream in self._open:
            self._over.append(stream)

    def acknowledge(self, stream: int, count: int) -> None:
        self._credit += count
        if 2 * self._credit >= CONNECTION_WINDOW:
            self._credit = self._grant(self._credit, None)
        window = self._windows.get(stream)
        if window is not None:
            window.credit += count
            if 2 * window.credit >= window.size:
                window.credit = self._grant(window.credit, stream)

    def widen(self, stream: int, window: int) -> None:
        found = self._windows.get(stream)
        if found is not None and window > found.size:
            more, found.size = window - found.size, window
            self._grant(more, stream)

    def _grant(self, count: int, stream: int | None) -> int:
        # Not `acknowledge_received_data`: that loses credit after a window was raised (h2 4.4, `WindowManager`).
        with suppress(H2Error, KeyError):  # the stream is gone, or the connection is ending
            self._engine.increment_flow_control_window(count, stream)
        return 0

    def ping(self) -> None:
        self._unless_ending(lambda: self._engine.ping(_PING))

    def announce_goaway(self) -> None:
        self._say_goaway(_LAST_STREAM)

    def go_away(self, code: ErrorCode, reason: bytes = b"") -> None:
        if code is ErrorCode.NO_ERROR:
            self._last_stream = self._engine.highest_inbound_stream_id
            self._say_goaway(self._last_stream)
        else:
            self._unless_ending(lambda: self._engine.close_connection(int(code), reason))
            self._finished = True

    def _say_goaway(self, last: int) -> None:
        # `h2` sends nothing more after its own GOAWAY: this frame goes out beside it, before the next frames.
        if not self._finished:
            self._first += self._engine.data_to_send() + GoAwayFrame(0, last_stream_id=last).serialize()

    def _unless_ending(self, send: Callable[[], None]) -> None:
        with suppress(H2Error):  # the connection is ending: what it would say has been said
            send()

    # --- State --------------------------------------------------------------------------------------------------------

    def unsent(self, stream: int | None = None) -> int:
        if stream is None:
            return self._unsent
        waiting = self._outgoing.get(stream)
        return 0 if waiting is None else waiting.size

    @property
    def finished(self) -> bool:
        return self._finished

    @property
    def header_list_limit(self) -> int:
        found = self._engine.remote_settings.max_header_list_size
        return 2**32 - 1 if found is None else found


def http2_connection(*, streams: int, header_bytes: int, resets: tuple[int, int]) -> _Adapter:  # noqa: ARG001
    """Return an engine for one connection, its SETTINGS queued. Resets are counted by `GrpcConnection` alone."""
    configuration = H2Configuration(
        client_side=False,
        header_encoding=None,
        validate_outbound_headers=False,
        normalize_outbound_headers=False,
    )
    engine = H2Connection(configuration)
    engine.local_settings = Settings(
        client=False,
        initial_values={
            SettingCodes.MAX_CONCURRENT_STREAMS: streams,
            SettingCodes.MAX_HEADER_LIST_SIZE: header_bytes,
        },
    )
    engine.decoder.max_header_list_size = header_bytes + HEADER_SLACK
    engine.initiate_connection()
    engine.increment_flow_control_window(CONNECTION_WINDOW - STREAM_WINDOW)
    return _Adapter(engine, header_bytes)
