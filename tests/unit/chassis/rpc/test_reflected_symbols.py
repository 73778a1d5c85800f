"""Symbols of the reflection service: services, messages and methods."""

from collections.abc import AsyncIterator

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest

from keyreeve.ca.v1 import certificate_service_pb2
from keyreeve_chassis.rpc.reflection import ReflectionServicer

SERVICE = "keyreeve.ca.v1.CertificateService"


async def found(symbol: str) -> str | None:
    async def asked() -> AsyncIterator[ServerReflectionRequest]:
        yield ServerReflectionRequest(file_containing_symbol=symbol)

    async for answer in ReflectionServicer([SERVICE]).ServerReflectionInfo(asked(), None):  # type: ignore[arg-type]
        for file in answer.file_descriptor_response.file_descriptor_proto:
            return FileDescriptorProto.FromString(file).name
    return None


@pytest.mark.parametrize("symbol", [SERVICE, f"{SERVICE}.SignCertificate", "keyreeve.ca.v1.SignCertificateItem"])
async def test_a_symbol_is_found_in_its_file(symbol: str) -> None:
    assert await found(symbol) == certificate_service_pb2.DESCRIPTOR.name


@pytest.mark.parametrize("symbol", [f"{SERVICE}.Nothing", "nobody.Nothing.Nothing", "Nothing", ""])
async def test_an_unknown_symbol_is_not_found(symbol: str) -> None:
    assert await found(symbol) is None
