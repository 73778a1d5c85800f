"""A receiver for OTLP over gRPC that stores every message."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as pb
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import (
    TraceServiceServicer,
    add_TraceServiceServicer_to_server,
)


@dataclass
class Received(TraceServiceServicer):
    """Received messages, and the address."""

    port: int = 0
    requests: list[pb.ExportTraceServiceRequest] = field(default_factory=list)

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def names(self) -> set[str]:
        """Names of the spans."""
        return {
            span.name
            for request in self.requests
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        }

    def Export(  # noqa: N802 - the contract's name
        self, request: pb.ExportTraceServiceRequest, _: grpc.ServicerContext
    ) -> pb.ExportTraceServiceResponse:
        self.requests.append(request)
        return pb.ExportTraceServiceResponse()


@contextmanager
def receiving_traces() -> Iterator[Received]:
    """Receive on a free port."""
    server, received = grpc.server(ThreadPoolExecutor(2)), Received()
    add_TraceServiceServicer_to_server(received, server)
    received.port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield received
    finally:
        server.stop(None).wait()
