"""Telemetry of calls: metrics always, a log line for failures (or for all), a trace."""

from contextlib import AbstractContextManager
from typing import Protocol

import structlog

from keyreeve.errors import InternalError, KeyreeveError
from keyreeve_chassis.guard.call import Call
from keyreeve_chassis.telemetry.line_limit import SOURCE
from keyreeve_chassis.telemetry.metrics import NO_REASON, ServerMetrics

CALL = "call"
"""The text of lines about calls. The audit and the metrics have all calls."""

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
        "_faults",
        "_labels",
        "_log_success",
        "_metrics",
        "_ok",
        "_refusals",
        "_seconds",
        "_started",
    )

    def __init__(
        self,
        metrics: ServerMetrics | None,
        labels: tuple[str, str, str] = ("", "", ""),
        *,
        log_success: bool,
    ) -> None:
        """Look up the method's metrics, if any are kept, by `grpc_type`, `grpc_service` and `grpc_method`."""
        self._metrics = metrics
        self._labels = labels
        if metrics is not None:
            self._started = metrics.started.labels(*labels)
            self._ok = metrics.handled.labels(*labels, "OK", NO_REASON)
            self._seconds = metrics.seconds.labels(*labels)
        self._log_success = log_success
        # Sources of lines: names of the contract, never of a caller, and mistakes of ours apart from what callers cause.
        self._refusals = f"call of {labels[1]}/{labels[2]}"
        self._faults = f"fault in {labels[1]}/{labels[2]}"

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
            _log.info(CALL, code="OK", **_facts(call, seconds), **{SOURCE: None})

    def fail(self, call: Call, error: KeyreeveError, seconds: float) -> None:
        """Record a refused or failed call."""
        self._count_failure(error.code, error.reason, seconds)
        facts = {"code": error.code, "reason": error.reason, "message": error.message, **_facts(call, seconds)}
        if isinstance(error, InternalError):
            _log.error(CALL, **facts, **{SOURCE: self._faults})
        else:
            _log.info(CALL, **facts, **{SOURCE: self._refusals})

    def cancel(self, call: Call, code: str, seconds: float) -> None:
        """Record a call that the caller cancelled or the transport ended at its deadline."""
        self._count_failure(code, NO_REASON, seconds)
        _log.info(CALL, code=code, **_facts(call, seconds), **{SOURCE: self._refusals})

    def _count_failure(self, code: str, reason: str, seconds: float) -> None:
        if self._metrics is not None:
            self._metrics.handled.labels(*self._labels, code, reason).inc()
            self._seconds.observe(seconds)


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
