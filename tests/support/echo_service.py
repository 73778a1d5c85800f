"""A service with three scripted methods for tests of the chassis, with a descriptor built here."""
# ruff: noqa: N802  # handlers have the names of the methods

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace

from google.protobuf import descriptor_pb2, descriptor_pool
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from keyreeve.identity import Role
from keyreeve_chassis.guard.access import AccessRule
from keyreeve_chassis.guard.call import Call
from keyreeve_chassis.guard.router import ServedService

ECHO = "/test.echo.v1.EchoService/Echo"
ADMIN_ECHO = "/test.echo.v1.EchoService/AdminEcho"
WATCH = "/test.echo.v1.EchoService/Watch"
COUNT = "/test.echo.v1.EchoService/Count"
JOIN = "/test.echo.v1.EchoService/Join"

_Field = descriptor_pb2.FieldDescriptorProto


def _file() -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto(name="test/echo/v1/echo.proto", package="test.echo.v1", syntax="proto3")
    color = file.enum_type.add(name="Color")
    color.value.add(name="COLOR_UNSPECIFIED", number=0)
    color.value.add(name="COLOR_RED", number=1)
    item = file.message_type.add(name="Item")
    item.field.add(name="color", number=1, type=_Field.TYPE_ENUM, type_name=".test.echo.v1.Color", label=1)
    item.field.add(name="child", number=2, type=_Field.TYPE_MESSAGE, type_name=".test.echo.v1.Item", label=1)
    request = file.message_type.add(name="EchoRequest")
    request.field.add(name="text", number=1, type=_Field.TYPE_STRING, label=1)
    request.field.add(name="items", number=2, type=_Field.TYPE_MESSAGE, type_name=".test.echo.v1.Item", label=3)
    entry = request.nested_type.add(name="ByNameEntry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, type=_Field.TYPE_STRING, label=1)
    entry.field.add(name="value", number=2, type=_Field.TYPE_ENUM, type_name=".test.echo.v1.Color", label=1)
    request.field.add(
        name="by_name", number=3, type=_Field.TYPE_MESSAGE, type_name=".test.echo.v1.EchoRequest.ByNameEntry", label=3
    )
    request.oneof_decl.add(name="kind")
    request.field.add(name="color", number=4, type=_Field.TYPE_ENUM, type_name=".test.echo.v1.Color", label=1)
    request.field[-1].oneof_index = 0
    request.field.add(name="number", number=5, type=_Field.TYPE_INT32, label=1, oneof_index=0)
    response = file.message_type.add(name="EchoResponse")
    response.field.add(name="text", number=1, type=_Field.TYPE_STRING, label=1)
    service = file.service.add(name="EchoService")
    names = {"input_type": ".test.echo.v1.EchoRequest", "output_type": ".test.echo.v1.EchoResponse"}
    service.method.add(name="Echo", **names)
    service.method.add(name="AdminEcho", **names)
    service.method.add(name="Watch", server_streaming=True, **names)
    service.method.add(name="Count", server_streaming=True, **names)
    service.method.add(name="Join", client_streaming=True, **names)
    return file


_pool = descriptor_pool.DescriptorPool()
_pool.Add(_file())

SERVICE = _pool.FindServiceByName("test.echo.v1.EchoService")
EchoRequest: type[Message] = GetMessageClass(_pool.FindMessageTypeByName("test.echo.v1.EchoRequest"))
EchoResponse: type[Message] = GetMessageClass(_pool.FindMessageTypeByName("test.echo.v1.EchoResponse"))
Color = _pool.FindEnumTypeByName("test.echo.v1.Color")

ROWS = {
    ECHO: AccessRule(frozenset(Role), batches=True),
    ADMIN_ECHO: AccessRule(frozenset({Role.ADMIN})),
    WATCH: AccessRule(frozenset({Role.ADMIN, Role.MEMBER}), long_stream=True).through_gateways,
    COUNT: AccessRule(frozenset({Role.ADMIN}), batches=True),
    JOIN: AccessRule(frozenset({Role.ADMIN}), batches=True),
}


class EchoServicer:
    """Echoes, or runs `act`; `calls` has every call that reached a handler."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.act: Callable[[Message, Call], Awaitable[Message]] | None = None
        self.cancelled = 0
        self.feed: asyncio.Queue[str | None] = asyncio.Queue()
        self.watch_ended = asyncio.Event()

    async def Echo(self, request: Message, call: Call) -> Message:
        self.calls.append(call)
        try:
            if self.act is not None:
                return await self.act(request, call)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return EchoResponse(text=request.text)

    async def AdminEcho(self, request: Message, call: Call) -> Message:
        self.calls.append(call)
        return EchoResponse(text=request.text)

    async def Watch(self, request: Message, call: Call) -> AsyncIterator[Message]:
        """Send `request.text`, then what is put into `feed`, until None."""
        self.calls.append(call)
        try:
            yield EchoResponse(text=request.text)
            while (text := await self.feed.get()) is not None:
                yield EchoResponse(text=text)
        finally:
            self.watch_ended.set()

    async def Join(self, requests: AsyncIterator[Message], call: Call) -> Message:
        """Answer the texts of a client stream, joined."""
        self.calls.append(call)
        return EchoResponse(text=" ".join([request.text async for request in requests]))

    async def Count(self, request: Message, call: Call) -> AsyncIterator[Message]:
        """Send large messages without end, as fast as the reader takes them."""
        self.calls.append(call)
        try:
            while True:
                yield EchoResponse(text="x" * 65536)
        finally:
            self.watch_ended.set()


def echo_service(servicer: EchoServicer | None = None, *, forwarded: frozenset[str] = frozenset()) -> ServedService:
    """The service with its access rules; some methods can be forwarded."""
    rows = {name: replace(row, forwarded=name in forwarded) for name, row in ROWS.items()}
    return ServedService(SERVICE, servicer or EchoServicer(), rows)
