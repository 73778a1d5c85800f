"""gRPC server reflection (v1alpha, which is what grpcio-reflection speaks): the contract, told by the server itself."""

from collections.abc import AsyncIterator, Iterable
from typing import Any

from google.protobuf import descriptor_pool
from google.protobuf.descriptor import FileDescriptor
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha.reflection import aio

from keyreeve.identity import ALL_ROLES
from keyreeve_chassis.guard.access import AccessRule, Freshness
from keyreeve_chassis.guard.call import Call
from keyreeve_chassis.guard.router import ServedService

_SERVICE = reflection_pb2.DESCRIPTOR.services_by_name["ServerReflection"]


class _Symbols:
    """The descriptors of the generated code, also by the full name of a method: tools ask for a file by that."""

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401  # whatever else the pool can be asked
        return getattr(descriptor_pool.Default(), name)

    def FindFileContainingSymbol(self, symbol: str) -> FileDescriptor:  # noqa: N802  # the pool's own name for it
        """Find the file that holds a symbol. Raises `KeyError`."""
        try:
            return descriptor_pool.Default().FindFileContainingSymbol(symbol)
        except KeyError:  # the pool knows services, but not their methods
            service, _, method = symbol.rpartition(".")
            found = descriptor_pool.Default().FindServiceByName(service)
            if method not in found.methods_by_name:
                raise
            return found.file


class ReflectionServicer:
    """Answers from the descriptors of the generated code."""

    def __init__(self, services: Iterable[str]) -> None:
        """Take the full names to list."""
        self._servicer = aio.ReflectionServicer(services, pool=_Symbols())

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
    row = AccessRule(ALL_ROLES, long_stream=True, freshness=Freshness.TOLERANT, unrecorded=True)
    rows = {f"/{_SERVICE.full_name}/ServerReflectionInfo": row}
    return ServedService(_SERVICE, ReflectionServicer(names), rows, strict=False)
