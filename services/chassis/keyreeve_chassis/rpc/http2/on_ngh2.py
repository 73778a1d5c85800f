"""The HTTP/2 engine on libnghttp2, through `ngh2`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ngh2 import Configuration, Connection, Role
from ngh2.enums import Setting
from ngh2.events import (
    DataReceived,
    PingAcknowledged,
    PingReceived,
    RequestReceived,
    SettingsReceived,
    StreamClosed,
    StreamReset,
    TrailersReceived,
    WindowUpdated,
)
from ngh2.exceptions import NGH2Error

from keyreeve_chassis.rpc.http2.port import (
    CONNECTION_WINDOW,
    HEADER_SLACK,
    MOST_FIELDS,
    ConnectionBroken,
    ErrorCode,
    Http2Events,
)
from keyreeve_chassis.rpc.wire import Header

_MOST_CONTINUATIONS = 8
_GLITCHES = (10_000, 330)
"""Suspicious frames at once, and in each second for long (libnghttp2's `glitch_rate_limit`); beyond it the connection ends."""


@dataclass(frozen=True, slots=True)
class _Adapter:
    """An `Http2Connection`."""

    _engine: Connection

    def receive(self, data: bytes, events: Http2Events) -> None:
        try:
            self._engine.receive_data(data)
        except NGH2Error as broken:
            self._report(events)
            raise ConnectionBroken(str(broken)) from None
        self._report(events)

    def output(self, events: Http2Events, most: int) -> bytes:
        try:
            data = self._engine.data_to_send(most)
        except NGH2Error as broken:
            raise ConnectionBroken(str(broken)) from None
        self._report(events)
        return data

    def _report(self, events: Http2Events) -> None:
        for event in self._engine.events():
            kind = type(event)
            if kind is DataReceived:
                events.on_data(event.stream_id, event.data, end=event.end_stream)  # type: ignore[attr-defined]
            elif kind is RequestReceived:
                events.on_request(event.stream_id, event.headers, end=event.end_stream)  # type: ignore[attr-defined]
            elif kind is StreamClosed:
                events.on_closed(event.stream_id)  # type: ignore[attr-defined]
            elif kind is WindowUpdated:
                events.on_window()
            elif kind is StreamReset:
                events.on_reset(event.stream_id)  # type: ignore[attr-defined]
            elif kind is PingReceived:
                events.on_ping()
            elif kind is PingAcknowledged:
                events.on_pong()
            elif kind is SettingsReceived:
                events.on_settings()
            elif kind is TrailersReceived:
                events.on_end(event.stream_id)  # type: ignore[attr-defined]

    def send_headers(self, stream: int, headers: Sequence[Header], *, end: bool = False) -> None:
        try:
            self._engine.send_response(stream, headers, end_stream=end)
        except NGH2Error:
            """The stream is gone."""

    def send_data(self, stream: int, data: bytes, *, end: bool = False) -> None:
        try:
            self._engine.send_data(stream, data, end_stream=end)
        except NGH2Error:
            """The stream is gone."""

    def send_trailers(self, stream: int, headers: Sequence[Header]) -> None:
        try:
            self._engine.send_trailers(stream, headers)
        except NGH2Error:
            """The stream is gone."""

    def reset(self, stream: int, code: ErrorCode) -> None:
        try:
            self._engine.reset_stream(stream, int(code))
        except NGH2Error:
            """The stream is gone."""

    def acknowledge(self, stream: int, count: int) -> None:
        try:
            self._engine.acknowledge_received_data(count, stream)
        except NGH2Error:
            """The connection is ending."""

    def widen(self, stream: int, window: int) -> None:
        try:
            self._engine.set_local_window_size(window, stream_id=stream)
        except NGH2Error:
            """The stream is gone."""

    def ping(self) -> None:
        self._unless_ending(self._engine.ping)

    def announce_goaway(self) -> None:
        self._unless_ending(self._engine.send_shutdown_notice)

    def go_away(self, code: ErrorCode, reason: bytes = b"") -> None:
        if code is ErrorCode.NO_ERROR:
            self._unless_ending(self._engine.send_goaway)
        else:
            self._unless_ending(lambda: self._engine.send_goaway(int(code), debug_data=reason))

    def _unless_ending(self, send: Callable[[], None]) -> None:
        try:
            send()
        except NGH2Error:
            """The connection is ending: what it would say has been said."""

    def unsent(self, stream: int | None = None) -> int:
        try:
            return self._engine.queued_body_size(stream)
        except NGH2Error:
            return 0

    @property
    def finished(self) -> bool:
        return not self._engine.want_read and not self._engine.want_write

    @property
    def header_list_limit(self) -> int:
        try:
            return self._engine.remote_settings.get(Setting.MAX_HEADER_LIST_SIZE, 2**32 - 1)
        except NGH2Error:
            return 2**32 - 1  # the connection is ending


def http2_connection(*, streams: int, header_bytes: int, resets: tuple[int, int]) -> _Adapter:
    """Return an engine for one connection, its SETTINGS queued: most open streams, header list, resets in a burst and a second."""
    engine = Connection(
        Role.SERVER,
        Configuration(
            auto_window_update=False,
            glitch_rate_limit=_GLITCHES,
            max_continuations=_MOST_CONTINUATIONS,
            max_inbound_header_count=MOST_FIELDS,
            max_inbound_header_list_size=header_bytes + HEADER_SLACK,
            stream_reset_rate_limit=resets,
        ),
    )
    engine.initiate_connection(
        {int(Setting.MAX_CONCURRENT_STREAMS): streams, int(Setting.MAX_HEADER_LIST_SIZE): header_bytes}
    )
    engine.set_local_window_size(CONNECTION_WINDOW)
    return _Adapter(engine)
