"""The telemetry of one serving process: metrics of calls, log lines, traces."""

from contextlib import AsyncExitStack
from functools import cache

from keyreeve_chassis.settings.sections import ServerSettings
from keyreeve_chassis.telemetry import tracing
from keyreeve_chassis.telemetry.calls import CallTelemetry
from keyreeve_chassis.telemetry.metrics import ServerMetrics


def call_telemetry(service: str, settings: ServerSettings, stack: AsyncExitStack) -> CallTelemetry:
    """Where the guard reports; what it opens is closed with the stack. Raises `TracingUnavailable`."""
    tracer = tracing.start(settings.tracing.endpoint, f"keyreeve-{service}", settings.instance)
    if tracer is not None:
        stack.callback(tracer[1])
    return CallTelemetry(_server_metrics(), tracer[0] if tracer else None, log_every_call=settings.log.calls)


@cache
def _server_metrics() -> ServerMetrics:
    """One set for the process: a registry holds a name once, and tests run several servers in one."""
    return ServerMetrics()
