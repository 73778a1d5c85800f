"""The test service of gRPC's interoperability tests, on a listener of the chassis: `python -m support.interop_service`.

Its cases: https://github.com/grpc/grpc (doc/interop-test-descriptions.md)
"""

import argparse
import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool
from google.protobuf.message_factory import GetMessageClass

from keyreeve.errors import MethodUnknown
from keyreeve_chassis.guard.route import Route
from keyreeve_chassis.guard.router import Kind
from keyreeve_chassis.rpc import wire
from keyreeve_chassis.rpc.http2.engines import Engine, h2_engine, usable_engine
from keyreeve_chassis.rpc.limits import ByteBudget
from keyreeve_chassis.rpc.listener import Listener
from keyreeve_chassis.rpc.server import listener_limits
from keyreeve_chassis.settings.serving import ServingSettings
from keyreeve_chassis.tls import LiveServerCredentials, ServerIdentity
from support.peer_certificates import Hierarchies

_Field = descriptor_pb2.FieldDescriptorProto
_INT, _BYTES, _STRING, _BOOL, _MESSAGE = (
    _Field.TYPE_INT32,
    _Field.TYPE_BYTES,
    _Field.TYPE_STRING,
    _Field.TYPE_BOOL,
    _Field.TYPE_MESSAGE,
)
_MESSAGES: dict[str, list[tuple[str, int, Any]]] = {
    "Empty": [],
    "Payload": [("type", 1, _INT), ("body", 2, _BYTES)],
    "EchoStatus": [("code", 1, _INT), ("message", 2, _STRING)],
    "SimpleRequest": [("response_size", 2, _INT), ("payload", 3, "Payload"), ("response_status", 7, "EchoStatus")],
    "SimpleResponse": [("payload", 1, "Payload")],
    "StreamingInputCallRequest": [("payload", 1, "Payload")],
    "StreamingInputCallResponse": [("aggregated_payload_size", 1, _INT)],
    "ResponseParameters": [("size", 1, _INT), ("interval_us", 2, _INT)],
    "StreamingOutputCallRequest": [
        ("response_parameters", 2, "*ResponseParameters"),
        ("payload", 3, "Payload"),
        ("response_status", 7, "EchoStatus"),
    ],
    "StreamingOutputCallResponse": [("payload", 1, "Payload")],
}

_RPCS = {
    "EmptyCall": ("Empty", "Empty", False, False),
    "UnaryCall": ("SimpleRequest", "SimpleResponse", False, False),
    "StreamingOutputCall": ("StreamingOutputCallRequest", "StreamingOutputCallResponse", False, True),
    "StreamingInputCall": ("StreamingInputCallRequest", "StreamingInputCallResponse", True, False),
    "FullDuplexCall": ("StreamingOutputCallRequest", "StreamingOutputCallResponse", True, True),
    "UnimplementedCall": ("Empty", "Empty", False, False),
}
"""As the contract says; the last is not served."""


def _file() -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto(name="interop.proto", package="grpc.testing", syntax="proto3")
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, number, kind in fields:
            if isinstance(kind, str):
                label = _Field.LABEL_REPEATED if kind.startswith("*") else _Field.LABEL_OPTIONAL
                of = f".grpc.testing.{kind.lstrip('*')}"
                message.field.add(name=field, number=number, type=_MESSAGE, type_name=of, label=label)
            else:
                message.field.add(name=field, number=number, type=kind, label=_Field.LABEL_OPTIONAL)
    service = file.service.add(name="TestService")
    for name, (request, answer, from_client, from_server) in _RPCS.items():
        types = {"input_type": f".grpc.testing.{request}", "output_type": f".grpc.testing.{answer}"}
        service.method.add(name=name, client_streaming=from_client, server_streaming=from_server, **types)
    return file


_pool = descriptor_pool.DescriptorPool()
_pool.Add(_file())
(
    Empty,
    Payload,
    EchoStatus,
    SimpleRequest,
    SimpleResponse,
    InputRequest,
    InputResponse,
    ResponseParameters,
    OutputRequest,
    OutputResponse,
) = (GetMessageClass(_pool.FindMessageTypeByName(f"grpc.testing.{name}")) for name in _MESSAGES)
ECHO_INITIAL, ECHO_TRAILING = "x-grpc-test-echo-initial", "x-grpc-test-echo-trailing-bin"
_UNKNOWN = (wire.UNIMPLEMENTED, "there is no such method", ())


def _refusal(status: Any) -> Any:
    return (status.code, status.message, ()) if status.code else None


def echo_metadata(context: Any) -> None:
    """Send the metadata back that the cases ask for."""
    sent = dict(context.metadata)
    found = [(key, sent[key]) for key in (ECHO_INITIAL, ECHO_TRAILING) if key in sent]
    context.set_metadata(
        initial=[pair for pair in found if pair[0] == ECHO_INITIAL],
        trailing=[pair for pair in found if pair[0] == ECHO_TRAILING],
    )


async def empty_call(request: bytes, context: Any) -> Any:
    return b""


async def unary_call(request: bytes, context: Any) -> Any:
    echo_metadata(context)
    asked = SimpleRequest.FromString(request)
    if refusal := _refusal(asked.response_status):
        return refusal
    return SimpleResponse(payload=Payload(body=bytes(asked.response_size))).SerializeToString()


async def streaming_output_call(request: bytes, context: Any) -> Any:
    return await _answer(OutputRequest.FromString(request), context)


async def streaming_input_call(requests: AsyncIterator[bytes], context: Any) -> Any:
    total = 0
    async for one in requests:
        total += len(InputRequest.FromString(one).payload.body)
    await context.write(InputResponse(aggregated_payload_size=total).SerializeToString())


async def full_duplex_call(requests: AsyncIterator[bytes], context: Any) -> Any:
    echo_metadata(context)
    async for one in requests:
        if refusal := await _answer(OutputRequest.FromString(one), context):
            return refusal
    return None


async def _answer(asked: Any, context: Any) -> Any:
    for parameters in asked.response_parameters:
        await asyncio.sleep(parameters.interval_us / 1e6)
        await context.write(OutputResponse(payload=Payload(body=bytes(parameters.size))).SerializeToString())
    return _refusal(asked.response_status)


async def unknown(request: Any, context: Any) -> Any:
    return _UNKNOWN


METHODS: dict[str, tuple[Kind, Callable[..., Any]]] = {
    "EmptyCall": (Kind.UNARY, empty_call),
    "UnaryCall": (Kind.UNARY, unary_call),
    "StreamingOutputCall": (Kind.SERVER_STREAM, streaming_output_call),
    "StreamingInputCall": (Kind.CLIENT_STREAM, streaming_input_call),
    "FullDuplexCall": (Kind.BIDI_STREAM, full_duplex_call),
}


class Interop:
    """The methods of the test service as routes."""

    def route(self, name: str) -> Route:
        service, _, method = name.lstrip("/").partition("/")
        if service != "grpc.testing.TestService" or method not in METHODS:
            return Route(Kind.BIDI_STREAM, None, unknown, lambda _: MethodUnknown(name), unknown)
        kind, serve = METHODS[method]
        return Route(kind, serve if kind is Kind.UNARY else None, serve, lambda _: None, serve)


async def serve(port: int, tls_port: int, *, engine: Engine, directory: Path) -> None:
    """Serve in plain text and over TLS without client certificates, until told to stop.

    `directory` gets the root certificate and the descriptors of the service, for clients.
    """
    settings = ServingSettings()
    hierarchies = Hierarchies.make()
    leaf = hierarchies.control.service()
    (directory / "root.pem").write_bytes(hierarchies.control_root.pem)
    descriptors = descriptor_pb2.FileDescriptorSet(file=[_file()])
    (directory / "descriptors.pb").write_bytes(descriptors.SerializeToString())
    identity = ServerIdentity(leaf.chain_pem, leaf.key_pem, leaf.chain_pem)
    tls = LiveServerCredentials(lambda: identity).build(ask_for_certificates=False)
    budget = ByteBudget(settings.buffered_bytes)
    plain = Listener(Interop(), listener_limits(settings), budget, None, engine=engine)
    secure = Listener(Interop(), listener_limits(settings), budget, tls, engine=engine)
    plain.listen("127.0.0.1", port)
    secure.listen("127.0.0.1", tls_port)
    try:
        await asyncio.Event().wait()
    finally:
        await plain.stop(0)
        await secure.stop(0)


if __name__ == "__main__":
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--port", type=int, required=True)
    arguments.add_argument("--tls-port", type=int, required=True)
    arguments.add_argument("--engine", choices=["ngh2", "h2"], default="ngh2")
    arguments.add_argument("--directory", type=Path, required=True)
    told = arguments.parse_args()
    chosen = h2_engine() if told.engine == "h2" else usable_engine()
    asyncio.run(serve(told.port, told.tls_port, engine=chosen, directory=told.directory))
