"""The telemetry of one serving process."""

from contextlib import AsyncExitStack
from functools import cache

from keyreeve_chassis.settings.sections import ServerSettings
from keyreeve_chassis.telemetry import tracing
from keyreeve_chassis.telemetry.calls import CallTelemetry
from keyreeve_chassis.telemetry.metrics import ServerMetrics


def call_telemetry(service: str, settings: ServerSettings, stack: AsyncExitStack) -> CallTelemetry:
    """Build the guard's telemetry; the stack closes it. Raises `TracingUnavailable`."""
    tracer = tracing.start(settings.tracing.endpoint, f"keyreeve-{service}", settings.instance)
    if tracer is not None:
        stack.callback(tracer[1])
    return CallTelemetry(_server_metrics(), tracer[0] if tracer else None, log_every_call=settings.log.calls)


@cache
def _server_metrics() -> ServerMetrics:
    """Create the metrics once per process: a registry holds a name once, and tests run several servers."""
    return ServerMetrics()
