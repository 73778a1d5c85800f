"""Telemetry of calls: metrics always, a log line for failures (or for all), a trace."""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol

import structlog

from keyreeve.errors import InternalError, KeyreeveError
from keyreeve_chassis.guard.call import Call
from keyreeve_chassis.telemetry.line_limit import CALL, LineLimit
from keyreeve_chassis.telemetry.metrics import NO_REASON, ServerMetrics

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
        labels = (kind, service, method)  # names come from the contract, never from a caller: each is a series
        return MethodTelemetry(self._metrics, labels, log_success=self._log_every_call)


class MethodTelemetry:
    """Telemetry of one method."""

    __slots__ = (
        "_labels",
        "_lines",
        "_log_success",
        "_metrics",
        "_ok",
        "_seconds",
        "_started",
    )

    def __init__(
        self,
        metrics: ServerMetrics | None,
        labels: tuple[str, str, str] = ("", "", ""),
        *,
        log_success: bool,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Look up the method's metrics, if any are kept, by `grpc_type`, `grpc_service` and `grpc_method`."""
        self._metrics = metrics
        self._labels = labels
        if metrics is not None:
            self._started = metrics.started.labels(*labels)
            self._ok = metrics.handled.labels(*labels, "OK", NO_REASON)
            self._seconds = metrics.seconds.labels(*labels)
        self._log_success = log_success
        self._lines = LineLimit(clock)

    def begin(self) -> None:
        """Record the start of a call."""
        if self._metrics is not None:
            self._started.inc()

    def succeed(self, call: Call, seconds: float) -> None:
        """Record an answered call."""
        if self._metrics is not None:
            self._ok.inc()
            self._seconds.observe(seconds)
        if self._log_success:
            _log.info(CALL, code="OK", **_facts(call, seconds))

    def fail(self, call: Call, error: KeyreeveError, seconds: float) -> None:
        """Record a refused or failed call."""
        self._count_failure(error.code, error.reason, seconds)
        facts = {"code": error.code, "reason": error.reason, "message": error.message, **_facts(call, seconds)}
        if isinstance(error, InternalError):
            _log.error(CALL, **facts)
        else:
            self._write(facts)

    def cancel(self, call: Call, code: str, seconds: float) -> None:
        """Record a call that the caller cancelled or the transport ended at its deadline."""
        self._count_failure(code, NO_REASON, seconds)
        self._write({"code": code, **_facts(call, seconds)})

    def _count_failure(self, code: str, reason: str, seconds: float) -> None:
        if self._metrics is not None:
            self._metrics.handled.labels(*self._labels, code, reason).inc()
            self._seconds.observe(seconds)

    def _write(self, facts: dict[str, object]) -> None:
        """Write a line, unless there were too many: a caller who is always refused must not fill the disk."""
        omitted = self._lines.admit(CALL)
        if omitted is not None:
            _log.info(CALL, **facts, **({"omitted_before": omitted} if omitted else {}))


def _facts(call: Call, seconds: float) -> dict[str, object]:
    return {
        "method": call.method,
        "request_id": call.request_id,
        "caller": str(call.caller) if call.caller is not None else None,
        **({} if call.subject is None else {"subject": str(call.subject)}),
        "peer": call.peer,
        "ms": round(seconds * 1000, 2),
        "session_reused": call.tls.session_reused,
    }
