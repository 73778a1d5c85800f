"""Calls that a worker forwards to the coordinator over its socket."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from keyreeve.errors import AuthorityInUse, KeyreeveError
from keyreeve.identity import Caller, Role, SpiffeId
from keyreeve_chassis.audit.recording import Recorder
from keyreeve_chassis.audit.trail import CallRecord, Trail
from keyreeve_chassis.guard.call import Call, TlsFacts
from keyreeve_chassis.guard.forwarding import FORWARD, CallForwarder, ForwardedCalls, ForwardedStreams
from keyreeve_chassis.processes.ipc import Client, serve

METHOD = "/keyreeve.test.v1.TestService/Change"
CALLER = Caller(SpiffeId.parse("spiffe://example.test/operators/admin/ann"), Role.ADMIN, 1 << 150, "uid-1")


@dataclass
class FakeRouter:
    """Runs one method: notes its call, records it when told to, and answers or refuses."""

    records: bool = True
    refusal: KeyreeveError | None = None
    calls: list[Call] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)
    began: asyncio.Event = field(default_factory=asyncio.Event)
    over: asyncio.Event = field(default_factory=asyncio.Event)

    def method(self, _name: str) -> Any:
        return self

    @staticmethod
    def targets(_message: object) -> tuple[str, Sequence[tuple[str, str]]]:
        return "", ()

    async def invoke_stream(self, _method: str, requests: AsyncIterator[bytes], call: Call) -> bytes:
        self.calls.append(call)
        read: list[bytes] = []
        try:
            async for request in requests:
                read.append(request)
                self.began.set()
                if self.refusal is not None:
                    raise self.refusal
        except asyncio.CancelledError:
            self.ended.append("cancelled")
            raise
        finally:
            self.over.set()
        return b",".join(read)

    async def invoke(self, _method: str, request: bytes, call: Call) -> bytes:
        self.calls.append(call)
        if self.refusal is not None:
            raise self.refusal
        if self.records and call.record is not None:
            done = _done()
            call.record.entrusted = done
            await done
        return b"response to " + request


def _done() -> Any:
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    future.set_result(None)
    return future


@pytest.fixture
async def trail() -> AsyncIterator[Trail]:
    written: list[bytes] = []

    async def write(records: Sequence[bytes]) -> None:
        written.extend(records)

    trail = Trail(Recorder(write))
    yield trail
    await trail.close()


@pytest.fixture
def router() -> FakeRouter:
    return FakeRouter()


@pytest.fixture
async def forwarder(tmp_path: Path, trail: Trail, router: FakeRouter) -> AsyncIterator[CallForwarder]:
    socket = tmp_path / "run" / "coordinator.sock"
    streams = ForwardedStreams(router, trail)
    handlers = {FORWARD: ForwardedCalls(router, trail), **streams.handlers()}
    server = await serve(socket, handlers, streams.disconnected)
    client = Client(socket)
    yield CallForwarder(client)
    await client.close()
    await server.close()


def call(trail: Trail) -> Call:
    made = Call(METHOD, CALLER, deadline=None, peer="ipv4:127.0.0.1:5", tls=TlsFacts("TLSv1.3", True), request_id="r-1")
    made.record = CallRecord(trail, made, FakeRouter.targets)
    return made


async def test_a_forwarded_stream_is_run_whole_for_the_same_caller(
    forwarder: CallForwarder, trail: Trail, router: FakeRouter
) -> None:
    sent = [b"%d" % number for number in range(100)]
    assert await forwarder.stream(METHOD, messages(sent), call(trail)) == b",".join(sent)
    assert router.calls[0].caller == CALLER


async def test_a_handler_that_refuses_in_the_middle_ends_the_stream_with_its_error(
    forwarder: CallForwarder, trail: Trail, router: FakeRouter
) -> None:
    router.refusal = AuthorityInUse("not yet", metadata={"last_expiry": "1"})
    with pytest.raises(AuthorityInUse):
        await forwarder.stream(METHOD, messages([b"x"] * 1000), call(trail))


async def test_a_stream_that_breaks_off_ends_its_handler_unanswered(
    forwarder: CallForwarder, trail: Trail, router: FakeRouter
) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"one"
        raise ConnectionError("the caller went away")

    with pytest.raises(ConnectionError):
        await forwarder.stream(METHOD, broken(), call(trail))
    assert router.ended == ["cancelled"]


async def test_the_streams_of_a_worker_that_is_gone_end(
    forwarder: CallForwarder, trail: Trail, router: FakeRouter
) -> None:
    never = asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield b"one"
        await never.wait()

    running = asyncio.ensure_future(forwarder.stream(METHOD, slow(), call(trail)))
    await router.began.wait()
    await forwarder.client.close()
    await router.over.wait()
    assert router.ended == ["cancelled"]
    running.cancel()
    await asyncio.wait({running})


async def messages(sent: Sequence[bytes]) -> AsyncIterator[bytes]:
    for one in sent:
        yield one


async def test_a_forwarded_call_is_run_whole_for_the_same_caller(
    forwarder: CallForwarder, trail: Trail, router: FakeRouter
) -> None:
    assert await forwarder(METHOD, b"request", call(trail)) == b"response to request"
    [ran] = router.calls
    assert ran.subject is None
    assert (ran.caller, ran.method, ran.peer, ran.request_id) == (CALLER, METHOD, "ipv4:127.0.0.1:5", "r-1")
    assert (ran.tls.version, ran.tls.session_reused) == ("TLSv1.3", True)
    assert 0 < (ran.remaining() or 0) <= 60


async def test_a_forwarded_call_says_on_whose_behalf_it_is_made(
    forwarder: CallForwarder, trail: Trail, router: FakeRouter
) -> None:
    forwarded = call(trail)
    forwarded.subject = Caller(SpiffeId.parse("spiffe://example.test/operators/operator/olaf"), Role.OPERATOR, 3, "u-2")
    await forwarder(METHOD, b"request", forwarded)
    assert router.calls[0].subject == forwarded.subject


async def test_a_forwarded_calls_error_comes_back_whole(
    forwarder: CallForwarder, trail: Trail, router: FakeRouter
) -> None:
    router.refusal = AuthorityInUse("not yet", metadata={"last_expiry": "1"})
    with pytest.raises(AuthorityInUse) as refused:
        await forwarder(METHOD, b"", call(trail))
    assert refused.value.metadata == {"last_expiry": "1"}


@pytest.mark.parametrize("recorded", [True, False])
async def test_the_worker_knows_whether_the_coordinator_has_recorded_the_call(
    forwarder: CallForwarder, trail: Trail, router: FakeRouter, recorded: bool
) -> None:
    router.records = recorded
    forwarded = call(trail)
    await forwarder(METHOD, b"", forwarded)
    assert forwarded.record is not None
    assert await forwarded.record.written_elsewhere() is recorded
