"""Routes methods to handlers. Built from the services' descriptors, so no method can be forgotten.

Handlers see messages and a `Call`, never gRPC. A router also runs outside a server: one process may guard the calls and
hand their bytes to another, which answers them with `invoke`.

Requests with unknown fields or enum numbers are refused. Protocol Buffers keep what they do not know; a service that
decides about rights must not: a field that a newer client sent to narrow a request would be ignored in silence.
"""

import functools
import inspect
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor, MethodDescriptor, ServiceDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from keyreeve.errors import AccessDenied, FieldInvalid, MethodUnknown, Violation
from keyreeve.identity import Caller, Role
from keyreeve_chassis.audit.trail import Targets, targets_of
from keyreeve_chassis.guard.access import AccessRule, AccessRules
from keyreeve_chassis.guard.call import Call

Found = Any
"""A message or a number in one: their types are known to the descriptor only."""
Check = Callable[[Found, str], None]
"""Looks at a message found under a path (empty for the request itself) and raises `FieldInvalid`."""


@functools.cache
def parser(descriptor: Descriptor, *, strict: bool = True) -> Callable[[bytes], Message]:
    """Return the parser of one request type. It raises `FieldInvalid`.

    `strict` also refuses fields and enum numbers that this release does not know.
    """
    make = GetMessageClass(descriptor).FromString
    check = enum_check(descriptor) if strict else None

    def parse(data: bytes) -> Message:
        try:
            message = make(data)
        except DecodeError:
            raise FieldInvalid(f"the bytes of the request are not a {descriptor.full_name}") from None
        if strict:
            # Not compared with the request's own length: there are several encodings of one message.
            size = message.ByteSize()
            message.DiscardUnknownFields()
            if message.ByteSize() != size:
                raise FieldInvalid(
                    f"the request holds fields that this release of {descriptor.full_name} does not have; "
                    "the client is newer than the service"
                )
            if check is not None:
                check(message, "")
        return message

    return parse


def enum_check(descriptor: Descriptor) -> Check | None:
    """Return a check that every enum number in a message has a name, or None when the type reaches no enum."""
    return _compile(descriptor, {}) if _reaches_enum(descriptor, set()) else None


def _unknown_number(enum: EnumDescriptor, number: int, field: str) -> FieldInvalid:
    names = ", ".join(value.name for value in enum.values if value.number != 0)
    text = f"{number} is not a value of {enum.name}: {names}"
    return FieldInvalid(f"{field}: {text}", violations=[Violation(field, text)])


def _reaches_enum(descriptor: Descriptor, seen: set[str]) -> bool:
    if descriptor.full_name in seen:
        return False
    seen.add(descriptor.full_name)
    return any(
        field.enum_type is not None or (field.message_type is not None and _reaches_enum(field.message_type, seen))
        for field in descriptor.fields
    )


def _compile(descriptor: Descriptor, known: dict[str, list[Check]]) -> Check:
    """Build the check of one message type; `known` breaks the recursion of nested types."""
    steps = known.get(descriptor.full_name)
    if steps is None:
        steps = known[descriptor.full_name] = []
        for field in descriptor.fields:
            step = _field_step(field, known)
            if step is not None:
                steps.append(step)

    def check(message: Found, path: str) -> None:
        for step in steps:
            step(message, path)

    return check


def _field_step(field: FieldDescriptor, known: dict[str, list[Check]]) -> Check | None:
    name = field.name
    entry = field.message_type
    is_map = entry is not None and entry.GetOptions().map_entry
    one = _value_check(entry.fields_by_name["value"] if entry is not None and is_map else field, known)
    if one is None:
        return None
    if is_map:

        def step(message: Found, path: str) -> None:
            for key, item in getattr(message, name).items():
                one(item, f"{path}{name}[{key!r}]")

    elif field.is_repeated:

        def step(message: Found, path: str) -> None:
            for index, item in enumerate(getattr(message, name)):
                one(item, f"{path}{name}[{index}]")

    elif field.enum_type is not None:

        def step(message: Found, path: str) -> None:
            one(getattr(message, name), f"{path}{name}")

    else:

        def step(message: Found, path: str) -> None:
            if message.HasField(name):
                one(getattr(message, name), f"{path}{name}")

    return step


def _value_check(field: FieldDescriptor, known: dict[str, list[Check]]) -> Check | None:
    enum = field.enum_type
    if enum is not None:
        numbers = frozenset(enum.values_by_number)

        def check_number(number: Found, path: str) -> None:
            if number not in numbers:
                raise _unknown_number(enum, number, path)

        return check_number
    if field.message_type is None or not _reaches_enum(field.message_type, set()):
        return None
    inner = _compile(field.message_type, known)
    return lambda message, path: inner(message, f"{path}.")


Forward = Callable[[str, bytes, Call], Awaitable[bytes]]
"""Hands a checked call to the process that runs it: full method name, the request's bytes, the call."""
ForwardStream = Callable[[str, AsyncIterable[bytes], Call], Awaitable[bytes]]
"""The same for a client stream."""


class RouterIncomplete(Exception):
    """Services, handlers and access rules do not match; the message lists every gap."""


class Kind(StrEnum):
    """The shape of a method, as the `grpc_type` label names it."""

    UNARY = "unary"
    CLIENT_STREAM = "client_stream"
    SERVER_STREAM = "server_stream"
    BIDI_STREAM = "bidi_stream"


@dataclass(frozen=True, slots=True)
class ServedService:
    """A service of the contract, the object that answers it, and who may call what.

    The servicer has a method of the same name for each RPC: `async def GetThing(self, request, call) -> response`, for
    a server stream `def WatchThing(self, request, call) -> AsyncIterator[response]` (an async generator), for a client
    stream `async def ImportThings(self, requests, call) -> response` with an async iterator of requests, and for a stream
    in both directions an async generator with that iterator.
    """

    descriptor: ServiceDescriptor
    servicer: object
    rows: AccessRules
    strict: bool = True
    """Refuse requests with fields or enum numbers that this release does not know."""
    excluded_methods: frozenset[str] = frozenset()
    """RPCs of the service that another listener has; this one does not know them."""


@dataclass(frozen=True, slots=True)
class Method:
    """One method with its handler and access rule."""

    name: str
    """`/package.Service/Method`."""
    service: str
    rpc: str
    kind: Kind
    row: AccessRule
    handler: Callable[..., Any]
    parse: Callable[[bytes], Message]
    response: type[Message]
    targets: Targets
    """Finds what the audit record keeps of a request."""
    mutates: bool
    """It changes something: every mutation of the contract carries a `request_id`."""

    def serialize(self, response: object) -> bytes:
        """Serialize a response. Raises `TypeError` for a response of another type."""
        if not isinstance(response, self.response):
            raise TypeError(f"{self.name} answered with {type(response).__name__}, not {self.response.__name__}")
        return response.SerializeToString()

    async def answer(self, request: bytes, call: Call) -> bytes:
        """Run a unary method in this process."""
        message = self.parse(request)
        call.message = message
        if self.mutates and call.record is not None:
            call.record.prepare()
        return self.serialize(await self.handler(message, call))

    async def stream(self, request: bytes | AsyncIterable[bytes], call: Call) -> AsyncGenerator[bytes, None]:
        """Run a streaming method in this process."""
        incoming: Message | AsyncIterator[Message]
        if isinstance(request, bytes):
            incoming = call.message = self.parse(request)
        else:
            incoming = self._parsed(request)
            if call.record is not None:
                call.record.prepare()
        if self.kind is Kind.CLIENT_STREAM:
            yield self.serialize(await self.handler(incoming, call))
            return
        responses = self.handler(incoming, call)
        try:
            async for response in responses:
                yield self.serialize(response)
        finally:
            if (close := getattr(responses, "aclose", None)) is not None:
                await close()

    async def _parsed(self, requests: AsyncIterable[bytes]) -> AsyncIterator[Message]:
        async for request in requests:
            yield self.parse(request)


class Router:
    """Every method of a set of services, each with its handler and access rule."""

    def __init__(
        self,
        services: Iterable[ServedService],
        forward: Forward | None = None,
        forward_stream: ForwardStream | None = None,
    ) -> None:
        """Check that services, handlers and rows fit, or raise `RouterIncomplete` with everything that is missing.

        With `forward` and `forward_stream`, methods whose row says `forwarded` are handed to them instead of being run here.
        """
        self.services = tuple(services)
        self._forward = forward
        self._forward_stream = forward_stream
        gaps: list[str] = []
        found: dict[str, Method] = {}
        names: set[str] = set()
        for service in self.services:
            if service.descriptor.full_name in names:
                gaps.append(f"{service.descriptor.full_name} is served twice")
            names.add(service.descriptor.full_name)
            found.update(_methods(service, gaps))
        if gaps:
            raise RouterIncomplete("; ".join(gaps))
        self.methods: Mapping[str, Method] = found
        self.rows: AccessRules = {name: method.row for name, method in found.items()}

    def plus(self, services: Iterable[ServedService]) -> "Router":
        """Return a router that also serves more services and forwards as this one does."""
        return Router([*self.services, *services], self._forward, self._forward_stream)

    def method(self, name: str) -> Method:
        """Return a method by its exact full name, or raise `MethodUnknown`."""
        method = self.methods.get(name)
        if method is None:
            raise MethodUnknown(f"there is no method {name}")
        return method

    def respond(self, method: Method, request: bytes, call: Call) -> Awaitable[bytes]:
        """Answer a checked unary call, here or through `forward`."""
        if self._forward is not None and method.row.forwarded:
            return self._forward(method.name, request, call)
        return method.answer(request, call)

    async def respond_stream(
        self, method: Method, request: bytes | AsyncIterable[bytes], call: Call
    ) -> AsyncIterator[bytes]:
        """Answer a streaming call that has been checked: here, or through `forward_stream`."""
        if self._forward_stream is not None and method.row.forwarded and not isinstance(request, bytes):
            yield await self._forward_stream(method.name, request, call)
            return
        async with aclosing(method.stream(request, call)) as responses:
            async for response in responses:
                yield response

    async def invoke_stream(self, method: str, requests: AsyncIterable[bytes], call: Call) -> bytes:
        """`invoke` for a client stream."""
        found = self.method(method)
        check_access(self.rows, call.caller, method, call.subject)
        if found.kind is not Kind.CLIENT_STREAM:
            raise MethodUnknown(f"{method} is no client stream and cannot be forwarded as one")
        async with aclosing(found.stream(requests, call)) as responses:
            return await anext(responses)

    async def invoke(self, method: str, request: bytes, call: Call) -> bytes:
        """Run a unary method here, outside a server, and return the response's bytes.

        This is how the receiving process answers a forwarded call. The access row is applied again, since it is cheap
        and the only thing that stands between a mistake in the handing-on and the handler; the deadline is the
        caller's to enforce. Raises `KeyreeveError`, and whatever else the handler raises, as it is.
        """
        found = self.method(method)
        check_access(self.rows, call.caller, method, call.subject)
        if found.kind is not Kind.UNARY:
            raise MethodUnknown(f"{method} is a stream and cannot be forwarded as a unary call")
        return await found.answer(request, call)


def check_access(rows: AccessRules, caller: Caller | None, method: str, subject: Caller | None = None) -> AccessRule:
    """Return the method's row when it may be called; raise `AccessDenied` otherwise, and when there is no row.

    With a subject its role counts, narrowed to what may be called on behalf of another, and not the caller's.
    """
    row = rows.get(method)
    if subject is not None:
        if row is not None and subject.role in row.on_behalf:
            return row
        raise _denied(
            f"on behalf of {subject} (role {subject.role.value}) nobody", method, None if row is None else row.on_behalf
        )
    if row is not None and (row.anyone or (caller is not None and caller.role in row.roles)):
        return row
    who = "a caller without an identity" if caller is None else f"{caller} (role {caller.role.value})"
    raise _denied(who, method, None if row is None else row.roles)


def _denied(who: str, method: str, roles: frozenset[Role] | None) -> AccessDenied:
    allowed = ", ".join(sorted(role.value for role in roles or ()))
    return AccessDenied(
        f"{who} may not call {method}; allowed: {allowed or 'none'}",
        metadata={"method": method, "allowed": allowed},
    )


def _methods(service: ServedService, gaps: list[str]) -> Iterable[tuple[str, Method]]:
    prefix = f"/{service.descriptor.full_name}/"
    described = {
        f"{prefix}{one.name}": one for one in service.descriptor.methods if one.name not in service.excluded_methods
    }
    unknown = service.excluded_methods - {one.name for one in service.descriptor.methods}
    gaps.extend(f"{prefix}{name} is said to be elsewhere and is nowhere" for name in sorted(unknown))
    gaps.extend(f"the access row {name} has no method" for name in sorted(set(service.rows) - set(described)))
    for name, descriptor in described.items():
        row = service.rows.get(name)
        handler = getattr(service.servicer, descriptor.name, None)
        if row is None:
            gaps.append(f"{name} has no access row")
        if handler is None:
            gaps.append(f"{type(service.servicer).__name__} has no method {descriptor.name}")
        if row is None or handler is None:
            continue
        kind = _kind(descriptor)
        flaw = _misfit(kind, row, handler)
        if flaw is not None:
            gaps.append(f"{name} {flaw}")
            continue
        try:
            targets = targets_of(descriptor.input_type, row.records)
        except LookupError as missing:
            gaps.append(f"{name}: {missing}")
            continue
        yield (
            name,
            Method(
                name=name,
                service=service.descriptor.full_name,
                rpc=descriptor.name,
                kind=kind,
                row=row,
                handler=handler,
                parse=parser(descriptor.input_type, strict=service.strict),
                response=GetMessageClass(descriptor.output_type),
                targets=targets,
                mutates="request_id" in descriptor.input_type.fields_by_name,
            ),
        )


def _kind(method: MethodDescriptor) -> Kind:
    if method.client_streaming:
        return Kind.BIDI_STREAM if method.server_streaming else Kind.CLIENT_STREAM
    return Kind.SERVER_STREAM if method.server_streaming else Kind.UNARY


def _misfit(kind: Kind, row: AccessRule, handler: Callable[..., Any]) -> str | None:
    if kind in {Kind.UNARY, Kind.CLIENT_STREAM}:
        if row.long_stream:
            return "answers once, but its row says long_stream"
        return None if inspect.iscoroutinefunction(handler) else "is answered by something that is not `async def`"
    if row.forwarded:
        return "is a stream and cannot be forwarded"
    return (
        "is a stream answered by a coroutine, not an async iterator" if inspect.iscoroutinefunction(handler) else None
    )
