"""A service with scripted answers for tests of clients: real gRPC over real mutual TLS on loopback.

It is the CA unless it is given another service's name, and it has every method of every service.

It runs in a thread with an event loop of its own, so blocking and asyncio clients can call it alike.
"""

from __future__ import annotations

import asyncio
import threading
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import grpc
from cryptography import x509
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from keyreeve import Context
from keyreeve.audit.v1 import audit_service_pb2
from keyreeve.ca.v1 import (
    authority_service_pb2,
    certificate_service_pb2,
    enrollment_service_pb2,
    issuance_service_pb2,
    operator_service_pb2,
    operator_session_service_pb2,
    profile_service_pb2,
    trust_service_pb2,
)
from keyreeve.errors import KeyreeveError, MethodUnknown
from keyreeve.operations.v1 import operation_service_pb2
from keyreeve_chassis.guard.call import Call
from keyreeve_chassis.guard.failures import trailers
from keyreeve_chassis.guard.route import Route
from keyreeve_chassis.guard.router import Kind
from keyreeve_chassis.rpc import wire
from keyreeve_chassis.rpc.limits import ByteBudget
from keyreeve_chassis.rpc.listener import Listener
from keyreeve_chassis.rpc.server import listener_limits
from keyreeve_chassis.settings.serving import ServingSettings
from keyreeve_chassis.tls import LiveServerCredentials, ServerIdentity
from support.peer_certificates import TRUST_DOMAIN, Leaf, TestCa

FILES = (
    audit_service_pb2,
    authority_service_pb2,
    certificate_service_pb2,
    enrollment_service_pb2,
    issuance_service_pb2,
    operator_service_pb2,
    operator_session_service_pb2,
    profile_service_pb2,
    trust_service_pb2,
    operation_service_pb2,
)
SERVICES = [service for file in FILES for service in file.DESCRIPTOR.services_by_name.values()]
METHODS = {f"/{service.full_name}/{method.name}": method for service in SERVICES for method in service.methods}


@dataclass(frozen=True)
class Refusal:
    """A status without ErrorInfo, as gRPC itself or a proxy sends it."""

    code: grpc.StatusCode
    text: str = "refused by a fake"
    trailers: tuple[tuple[str, bytes], ...] = ()


@dataclass(frozen=True)
class Received:
    """One call that arrived."""

    method: str
    request: Any
    serial: int
    """Serial number of the client's certificate."""
    seconds: float
    """Its deadline, in seconds."""


One = Message | KeyreeveError | Refusal | Callable[[Any, Any], Awaitable[Message]]
Answer = One | Sequence[One]
"""A sequence is the messages of one stream."""


class FakeCa:
    """Answers each method with its scripted responses, then its default; other methods are refused."""

    def __init__(self, directory: Path, service: str = "ca") -> None:
        self.directory = directory
        self.service = service
        self.received: list[Received] = []
        self.defaults: dict[str, Answer] = {}
        self.scripts: dict[str, list[Answer]] = defaultdict(list)
        self.root = TestCa.root("root 0")
        self.roots = [self.root]
        self.identity = self.root.service(service)
        self.context = Context(
            trust_domain=TRUST_DOMAIN,
            endpoints={service: "127.0.0.1:1"},
            bundle=directory / "control.pem",
            estate_bundle=directory / "estate.pem",
            certificate=directory / "me.pem",
            key=directory / "me.key",
        )
        self.hand_out(self.root.person("operators/admin/ann"), [self.root])
        self._changed = threading.Condition()
        self._held = 0
        self._holding: set[str] = set()
        self._loop = asyncio.new_event_loop()
        self._released = asyncio.Event()

    # --- What the client is given -----------------------------------------------------------------------------------

    def hand_out(self, leaf: Leaf, roots: Sequence[TestCa]) -> None:
        """Write the files of the client's context, one after the other, as an agent does."""
        self.context.bundle.write_bytes(b"".join(root.pem for root in roots))
        self.context.key.write_bytes(leaf.key_pem)
        self.context.certificate.write_bytes(leaf.chain_pem)

    def change_everything(self) -> int:
        """New root, new client certificate, key and bundle; return the certificate's serial number.

        The server continues to present a certificate of the previous root until `catch_up`.
        """
        new = TestCa.root(f"root {len(self.roots)}")
        self.roots.append(new)
        leaf = new.person("operators/admin/ann")
        self.hand_out(leaf, [self.root, new])
        self.root = new
        serial: int = leaf.certificate.serial_number
        return serial

    def catch_up(self) -> None:
        """Present a certificate of the newest root from the next connection on."""
        self.identity = self.root.service(self.service)

    # --- What it does -----------------------------------------------------------------------------------------------

    def script(self, name: str, *answers: Answer) -> None:
        """Queue responses for the next calls of a method."""
        self.scripts[full_name(name)].extend(answers)

    def answer(self, name: str, answer: Answer) -> None:
        """Set the default response of a method."""
        self.defaults[full_name(name)] = answer

    def hold(self, name: str) -> None:
        """Hold the calls of a method until `release`."""
        self._holding.add(full_name(name))

    def release(self) -> None:
        """Answer all held calls and stop holding."""
        self._holding.clear()
        self._loop.call_soon_threadsafe(self._released.set)

    def wait_until_held(self, calls: int) -> None:
        """Wait until this many calls are held."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._held >= calls, timeout=60):
                raise AssertionError(f"{self._held} of {calls} calls have arrived")

    def wait_until_received(self, calls: int) -> None:
        """Wait until this many calls have arrived since the start."""
        with self._changed:
            if not self._changed.wait_for(lambda: len(self.received) >= calls, timeout=60):
                raise AssertionError(f"{len(self.received)} of {calls} calls have arrived")

    def methods(self) -> list[str]:
        """The names of the methods called so far, in order."""
        return [one.method.rpartition("/")[2] for one in self.received]

    # --- How it runs ------------------------------------------------------------------------------------------------

    @contextmanager
    def running(self) -> Iterator[FakeCa]:
        thread = threading.Thread(target=self._loop.run_forever, name="fake-ca")
        thread.start()
        listener = self._run(self._start())
        try:
            yield self
        finally:
            self.release()
            self._run(listener.stop(0))
            self._loop.call_soon_threadsafe(self._loop.stop)
            thread.join()
            self._loop.close()

    def _run(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout=30)

    async def _start(self) -> Listener:
        settings = ServingSettings()
        tls = LiveServerCredentials(self._identity).build()
        listener = Listener(self, listener_limits(settings), ByteBudget(settings.buffered_bytes), tls)
        port = listener.listen("127.0.0.1", 0)
        self.context = replace(self.context, endpoints={self.service: f"127.0.0.1:{port}"})
        return listener

    def _identity(self) -> ServerIdentity:
        roots = b"".join(root.pem for root in self.roots)
        return ServerIdentity(self.identity.chain_pem, self.identity.key_pem, roots)

    # --- What the listener asks for ---------------------------------------------------------------------------------

    def route(self, name: str) -> Route:
        """Return how to answer the calls of a method."""
        if name not in METHODS:
            return Route(Kind.BIDI_STREAM, None, _unknown, lambda _: MethodUnknown(name), _unknown)
        method = METHODS[name]
        read = GetMessageClass(method.input_type).FromString

        async def unary(request: bytes, context: Any) -> Any:
            try:
                return (await self._answer(name, read(request), context)).SerializeToString()
            except _Refused as refused:
                return refused.args

        async def stream(request: bytes, context: Any) -> Any:
            try:
                await self._arrived(name, read(request), context)
                answers = self._next(name)
                for answer in answers if isinstance(answers, Sequence) else [answers]:
                    await context.write((await self._give(answer, read(request), context)).SerializeToString())
            except _Refused as refused:
                return refused.args
            return None

        if method.server_streaming:
            return Route(Kind.SERVER_STREAM, None, stream, lambda _: None, stream)
        return Route(Kind.UNARY, unary, None, lambda _: None, unary)

    async def _answer(self, path: str, request: Message, context: Any) -> Message:
        await self._arrived(path, request, context)
        return await self._give(self._next(path), request, context)

    async def _arrived(self, path: str, request: Message, context: Any) -> None:
        self._note(path, request, context)
        if path in self._holding:
            self._count(1)
            await self._released.wait()
            self._count(-1)

    def _next(self, path: str) -> Any:
        if self.scripts[path]:
            return self.scripts[path].pop(0)
        return self.defaults.get(path, Refusal(grpc.StatusCode.UNIMPLEMENTED, "the fake has no answer"))

    async def _give(self, answer: Any, request: Message, context: Any) -> Message:
        if isinstance(answer, KeyreeveError):
            raise _Refused(*trailers(answer, Call("/fake", request_id="the-fakes-request-id")))
        if isinstance(answer, Refusal):
            raise _Refused(answer.code.value[0], answer.text, answer.trailers)
        return answer if isinstance(answer, Message) else await answer(request, context)

    def _note(self, path: str, request: Message, context: Any) -> None:
        (pem,) = context.auth["x509_pem_cert"]
        serial = x509.load_pem_x509_certificate(pem).serial_number
        with self._changed:
            self.received.append(Received(path, request, serial, context.time_remaining()))
            self._changed.notify_all()

    def _count(self, step: int) -> None:
        with self._changed:
            self._held += step
            self._changed.notify_all()


class _Refused(Exception):
    """A status: code, message, metadata."""


async def _unknown(_request: Any, _context: Any) -> Any:
    return wire.UNIMPLEMENTED, "there is no such method", ()


def full_name(name: str) -> str:
    """The path of a method, by its last segment."""
    return next(path for path in METHODS if path.endswith(f"/{name}"))
