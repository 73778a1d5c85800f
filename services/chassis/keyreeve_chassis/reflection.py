"""gRPC server reflection (v1alpha, which is what grpcio-reflection speaks): the contract, told by the server itself."""

from collections.abc import AsyncIterator, Iterable

from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha.reflection import aio

from keyreeve.identity import ALL_ROLES
from keyreeve_chassis.access import Freshness, Row
from keyreeve_chassis.call import Call
from keyreeve_chassis.router import ServedService

_SERVICE = reflection_pb2.DESCRIPTOR.services_by_name["ServerReflection"]


class ReflectionServicer:
    """Answers from the descriptors of the generated code."""

    def __init__(self, services: Iterable[str]) -> None:
        """Take the full names to list."""
        self._servicer = aio.ReflectionServicer(services)

    def ServerReflectionInfo(  # noqa: N802
        self,
        requests: AsyncIterator[reflection_pb2.ServerReflectionRequest],
        call: Call,  # noqa: ARG002
    ) -> AsyncIterator[reflection_pb2.ServerReflectionResponse]:
        """Answer each request in turn."""
        answers: AsyncIterator[reflection_pb2.ServerReflectionResponse] = self._servicer.ServerReflectionInfo(
            requests, None
        )
        return answers


def reflection_service(services: Iterable[str]) -> ServedService:
    """Return the reflection service for some services' full names; every verified role may use it."""
    names = [*services, _SERVICE.full_name]
    row = Row(ALL_ROLES, long_stream=True, freshness=Freshness.TOLERANT, unrecorded=True)
    rows = {f"/{_SERVICE.full_name}/ServerReflectionInfo": row}
    return ServedService(_SERVICE, ReflectionServicer(names), rows, strict=False)
