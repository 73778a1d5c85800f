"""Telemetry of calls: metrics always, a log line for failures (or for all), a trace."""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol

import structlog

from keyreeve.errors import InternalError, KeyreeveError
from keyreeve_chassis.guard.call import Call
from keyreeve_chassis.telemetry.metrics import NO_REASON, MethodMetrics, ServerMetrics

MOST_LINES = 50
"""Log lines about calls that were refused or cancelled, of one method in one second. The audit and the metrics have all."""

_log = structlog.get_logger("keyreeve.calls")


class Tracer(Protocol):
    """Makes a span for each call; see `keyreeve_chassis.telemetry.tracing`."""

    def span(self, call: Call) -> AbstractContextManager[None]:
        """Return the context in which the call is handled."""


class CallTelemetry:
    """The guard's telemetry. Without metrics and tracer it logs failures only."""

    def __init__(
        self, metrics: ServerMetrics | None = None, tracer: Tracer | None = None, *, log_every_call: bool = False
    ) -> None:
        """Take metrics, tracer and log.

        `log_every_call` logs successes too, which costs more than a cheap call.
        """
        self._metrics = metrics
        self.tracer = tracer
        self._log_every_call = log_every_call

    def of(self, kind: str, service: str, method: str) -> "MethodTelemetry":
        """The telemetry of one method, created once when the server is built."""
        metrics = self._metrics.of(kind, service, method) if self._metrics is not None else None
        return MethodTelemetry(metrics, log_success=self._log_every_call)


class MethodTelemetry:
    """Telemetry of one method."""

    __slots__ = ("_clock", "_lines", "_log_success", "_metrics", "_omitted", "_second")

    def __init__(
        self, metrics: MethodMetrics | None, *, log_success: bool, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Take the method's metrics, if any are kept."""
        self._metrics = metrics
        self._log_success = log_success
        self._clock = clock
        self._second = -1
        self._lines = 0
        self._omitted = 0

    def begin(self) -> None:
        """Record the start of a call."""
        if self._metrics is not None:
            self._metrics.begin()

    def succeed(self, call: Call, seconds: float) -> None:
        """Record an answered call."""
        if self._metrics is not None:
            self._metrics.succeed(seconds)
        if self._log_success:
            _log.info("call", code="OK", **_facts(call, seconds))

    def fail(self, call: Call, error: KeyreeveError, seconds: float) -> None:
        """Record a refused or failed call."""
        if self._metrics is not None:
            self._metrics.fail(error.code, error.reason, seconds)
        if isinstance(error, InternalError):
            _log.error("call", code=error.code, reason=error.reason, message=error.message, **_facts(call, seconds))
        elif self._may_write():
            _log.info("call", code=error.code, reason=error.reason, message=error.message, **_facts(call, seconds))

    def cancel(self, call: Call, code: str, seconds: float) -> None:
        """Record a call that the caller cancelled or the transport ended at its deadline."""
        if self._metrics is not None:
            self._metrics.fail(code, NO_REASON, seconds)
        if self._may_write():
            _log.info("call", code=code, **_facts(call, seconds))

    def _may_write(self) -> bool:
        """Whether the rate limit allows a log line.

        A caller who is refused a thousand times a second must not fill the disk.
        """
        second = int(self._clock())
        if second != self._second:
            if self._omitted:
                _log.info("calls without a line of their own", count=self._omitted)
            self._second, self._lines, self._omitted = second, 0, 0
        self._lines += 1
        if self._lines > MOST_LINES:
            self._omitted += 1
            return False
        return True


def _facts(call: Call, seconds: float) -> dict[str, object]:
    return {
        "method": call.method,
        "request_id": call.request_id,
        "caller": str(call.caller) if call.caller is not None else None,
        "peer": call.peer,
        "ms": round(seconds * 1000, 2),
        "session_reused": call.tls.session_reused,
    }
