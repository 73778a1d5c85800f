"""gRPC server reflection (v1alpha, which is what grpcio-reflection speaks): the contract, told by the server itself."""

from collections.abc import AsyncIterator, Iterable
from typing import Any

from google.protobuf import descriptor_pool
from google.protobuf.descriptor import FileDescriptor, ServiceDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha.reflection import aio

from keyreeve.identity import ALL_ROLES
from keyreeve_chassis.guard.access import AccessRule, Freshness
from keyreeve_chassis.guard.call import Call
from keyreeve_chassis.guard.router import ServedService

_V1ALPHA = reflection_pb2.DESCRIPTOR.services_by_name["ServerReflection"]
_V1 = "grpc.reflection.v1.ServerReflection"
_METHOD = "ServerReflectionInfo"


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


def _version_one() -> ServiceDescriptor:
    """Return grpc.reflection.v1, which grpcio-reflection lacks: the same messages in another package."""
    pool = descriptor_pool.Default()
    try:
        return pool.FindServiceByName(_V1)
    except KeyError:
        file = FileDescriptorProto()
        reflection_pb2.DESCRIPTOR.CopyToProto(file)
        file.name, file.package = "grpc/reflection/v1/reflection.proto", "grpc.reflection.v1"
        for message in file.message_type:
            for field in (one for one in message.field if one.type_name):
                field.type_name = field.type_name.replace(".v1alpha.", ".v1.")
        for method in file.service[0].method:
            method.input_type = method.input_type.replace(".v1alpha.", ".v1.")
            method.output_type = method.output_type.replace(".v1alpha.", ".v1.")
        file.ClearField("options")
        pool.AddSerializedFile(file.SerializeToString())
        return pool.FindServiceByName(_V1)


class ReflectionServicer:
    """Answers from the descriptors of the generated code, in the messages of one version."""

    def __init__(self, services: Iterable[str], version: ServiceDescriptor = _V1ALPHA) -> None:
        """Take the full names to list."""
        self._servicer = aio.ReflectionServicer(services, pool=_Symbols())
        self._answer: type[Message] = GetMessageClass(version.methods_by_name[_METHOD].output_type)

    async def ServerReflectionInfo(  # noqa: N802
        self,
        requests: AsyncIterator[Message],
        call: Call,  # noqa: ARG002
    ) -> AsyncIterator[Message]:
        """Answer each request in turn."""
        async for answer in self._servicer.ServerReflectionInfo(_as_alpha(requests), None):
            yield self._answer.FromString(answer.SerializeToString())


async def _as_alpha(requests: AsyncIterator[Message]) -> AsyncIterator[reflection_pb2.ServerReflectionRequest]:
    async for request in requests:
        yield reflection_pb2.ServerReflectionRequest.FromString(request.SerializeToString())


def reflection_services(services: Iterable[str]) -> list[ServedService]:
    """Return the reflection services, v1 and v1alpha, for some services' full names; every verified role may use them."""
    versions = (_V1ALPHA, _version_one())
    names = [*services, *(version.full_name for version in versions)]
    row = AccessRule(ALL_ROLES, long_stream=True, freshness=Freshness.TOLERANT, unrecorded=True)
    return [
        ServedService(
            version, ReflectionServicer(names, version), {f"/{version.full_name}/{_METHOD}": row}, strict=False
        )
        for version in versions
    ]
