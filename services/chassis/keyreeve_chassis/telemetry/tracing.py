"""OpenTelemetry tracing, off without an endpoint: a span per call that continues the caller's trace.

The packages come with the extra `otel` and are imported only when tracing is on.
"""

import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from keyreeve_chassis.guard.call import Call

_PROPAGATED = ("traceparent", "tracestate")
"""W3C Trace Context. Baggage is left alone: it is text from a stranger."""


class TracingUnavailable(Exception):
    """Tracing is configured but its packages are not installed."""


class CallTracer:
    """Makes a span of kind SERVER for each call."""

    def __init__(self, provider: Any) -> None:  # noqa: ANN401  # a TracerProvider, whose package may be absent
        """Take an OpenTelemetry TracerProvider."""
        self._trace = _imported("opentelemetry.trace")
        self._propagator = _imported("opentelemetry.trace.propagation.tracecontext").TraceContextTextMapPropagator()
        self._tracer = provider.get_tracer("keyreeve_chassis")

    @contextmanager
    def span(self, call: Call) -> Iterator[None]:
        """Run the call in a span; a failure is recorded as its status, without the text of the exception."""
        service, _, rpc = call.method.lstrip("/").partition("/")
        sent = {key: value for key, value in call.metadata if key in _PROPAGATED and isinstance(value, str)}
        with self._tracer.start_as_current_span(
            f"{service}/{rpc}",
            context=self._propagator.extract(sent),
            kind=self._trace.SpanKind.SERVER,
            attributes={
                "rpc.system": "grpc",
                "rpc.service": service,
                "rpc.method": rpc,
                "keyreeve.request_id": call.request_id,
                "keyreeve.caller": str(call.caller or ""),
                "network.peer.address": call.peer,
            },
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            try:
                yield
            except BaseException as failure:
                reason = getattr(failure, "reason", type(failure).__name__)
                span.set_status(self._trace.Status(self._trace.StatusCode.ERROR, str(reason)))
                raise


def start(endpoint: str | None, service: str, instance: str) -> tuple[CallTracer, Callable[[], None]] | None:
    """Export spans by OTLP over gRPC to `endpoint` (`http://host:4317`); None switches tracing off.

    Returns the tracer and the function that sends what is left and stops. Raises `TracingUnavailable`.
    """
    if endpoint is None:
        return None
    resources = _imported("opentelemetry.sdk.resources")
    sdk = _imported("opentelemetry.sdk.trace")
    export = _imported("opentelemetry.sdk.trace.export")
    otlp = _imported("opentelemetry.exporter.otlp.proto.grpc.trace_exporter")
    provider = sdk.TracerProvider(
        resource=resources.Resource.create({"service.name": service, "service.instance.id": instance})
    )
    insecure = not endpoint.startswith("https://")
    provider.add_span_processor(export.BatchSpanProcessor(otlp.OTLPSpanExporter(endpoint, insecure=insecure)))
    return CallTracer(provider), provider.shutdown


def _imported(name: str) -> Any:  # noqa: ANN401  # a module
    try:
        return importlib.import_module(name)
    except ImportError:
        raise TracingUnavailable(
            f"tracing needs {name.partition('.')[0]} packages: install keyreeve[server,otel], or unset the endpoint"
        ) from None
