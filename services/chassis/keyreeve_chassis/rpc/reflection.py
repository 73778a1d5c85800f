"""gRPC server reflection, v1 and v1alpha: the contract, told by the server itself.

Only the messages are grpcio-reflection's: its servicer imports grpc, which takes 10 MiB in each process.
"""

from collections.abc import AsyncIterator, Iterable, Iterator

from google.protobuf import descriptor_pool
from google.protobuf.descriptor import FileDescriptor, ServiceDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from grpc_reflection.v1alpha import reflection_pb2

from keyreeve.identity import ALL_ROLES
from keyreeve_chassis.guard.access import AccessRule, Freshness
from keyreeve_chassis.guard.call import Call
from keyreeve_chassis.guard.router import ServedService
from keyreeve_chassis.rpc import wire

_V1ALPHA = reflection_pb2.DESCRIPTOR.services_by_name["ServerReflection"]
_V1 = "grpc.reflection.v1.ServerReflection"
_METHOD = "ServerReflectionInfo"


def _file_of(symbol: str) -> FileDescriptor:
    """The file of a symbol: a service, message, enum or extension, or a method, which the pool does not know by name.

    Raises `KeyError`.
    """
    pool = descriptor_pool.Default()
    try:
        return pool.FindFileContainingSymbol(symbol)
    except KeyError:
        service, _, method = symbol.rpartition(".")
        found = pool.FindServiceByName(service)
        if method not in found.methods_by_name:
            raise
        return found.file


def _with_dependencies(file: FileDescriptor) -> Iterator[bytes]:
    """A file and all that it imports, each once, serialized."""
    waiting, seen = [file], {file.name}
    while waiting:
        one = waiting.pop(0)
        proto = FileDescriptorProto()
        one.CopyToProto(proto)
        yield proto.SerializeToString()
        for dependency in one.dependencies:
            if dependency.name not in seen:
                seen.add(dependency.name)
                waiting.append(dependency)


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
        self._services = sorted(services)
        self._answer: type[Message] = GetMessageClass(version.methods_by_name[_METHOD].output_type)

    async def ServerReflectionInfo(  # noqa: N802
        self,
        requests: AsyncIterator[Message],
        call: Call,  # noqa: ARG002
    ) -> AsyncIterator[Message]:
        """Answer each request in turn."""
        async for received in requests:
            request = reflection_pb2.ServerReflectionRequest.FromString(received.SerializeToString())
            try:
                answer = self._found(request)
            except KeyError:
                refused = reflection_pb2.ErrorResponse(error_code=wire.NOT_FOUND, error_message="not found")
                answer = reflection_pb2.ServerReflectionResponse(error_response=refused)
            answer.original_request.CopyFrom(request)
            yield self._answer.FromString(answer.SerializeToString())

    def _found(self, request: reflection_pb2.ServerReflectionRequest) -> reflection_pb2.ServerReflectionResponse:
        """Look up what a request asks for. Raises `KeyError` when there is no such thing."""
        pool = descriptor_pool.Default()
        match request.WhichOneof("message_request"):
            case "list_services":
                services = [reflection_pb2.ServiceResponse(name=name) for name in self._services]
                return reflection_pb2.ServerReflectionResponse(
                    list_services_response=reflection_pb2.ListServiceResponse(service=services)
                )
            case "all_extension_numbers_of_type":
                of_type = pool.FindMessageTypeByName(request.all_extension_numbers_of_type)
                numbers = sorted(one.number for one in pool.FindAllExtensions(of_type))
                return reflection_pb2.ServerReflectionResponse(
                    all_extension_numbers_response=reflection_pb2.ExtensionNumberResponse(
                        base_type_name=of_type.full_name, extension_number=numbers
                    )
                )
            case "file_by_filename":
                file = pool.FindFileByName(request.file_by_filename)
            case "file_containing_symbol":
                file = _file_of(request.file_containing_symbol)
            case "file_containing_extension":
                asked = request.file_containing_extension
                extended = pool.FindMessageTypeByName(asked.containing_type)
                file = _file_of(pool.FindExtensionByNumber(extended, asked.extension_number).full_name)
            case _:
                raise KeyError(request)
        files = reflection_pb2.FileDescriptorResponse(file_descriptor_proto=_with_dependencies(file))
        return reflection_pb2.ServerReflectionResponse(file_descriptor_response=files)


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
