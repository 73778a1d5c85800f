"""The orderly end of a connection: GOAWAY in two steps, then its calls (RFC 9113 6.8)."""

from typing import Final

from keyreeve_chassis.rpc.http2.port import ErrorCode, Http2Connection

_CROSSING_SECONDS: Final = 1.0
"""How long streams that cross the announcement of GOAWAY may take to arrive, when the peer does not answer a ping."""


class Draining:
    """Asks the peer of one connection to go elsewhere."""

    __slots__ = ("_close_at", "_http2", "_since", "_went_away")

    def __init__(self, http2: Http2Connection) -> None:
        """Take the engine."""
        self._http2 = http2
        self._since: float | None = None
        self._went_away = False
        self._close_at = float("inf")

    @property
    def begun(self) -> bool:
        """The peer has been asked."""
        return self._since is not None

    def begin(self, now: float, grace: float) -> None:
        """Ask; the calls have `grace` seconds. The first of several bounds counts."""
        if self._since is None:
            self._since = now
            # In two steps, so that a call which crosses the first is still answered.
            self._http2.announce_goaway()
            self._http2.ping()
        self._close_at = min(self._close_at, now + grace)

    def pong(self) -> None:
        """What crossed the announcement has arrived."""
        if self._since is not None and not self._went_away:
            self._go_away()

    def over(self, now: float, *, busy: bool) -> bool:
        """Go on; whether the connection is to end now."""
        if self._since is None:
            return False
        if not self._went_away and now - self._since > _CROSSING_SECONDS:
            self._go_away()
        return (self._went_away and not busy) or now >= self._close_at

    def _go_away(self) -> None:
        self._went_away = True
        self._http2.go_away(ErrorCode.NO_ERROR)
