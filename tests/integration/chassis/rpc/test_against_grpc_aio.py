"""The same calls on grpcio's server and on ours: clients must not be able to tell them apart."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import grpc
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from keyreeve_chassis.guard.route import Route
from keyreeve_chassis.guard.router import Kind
from keyreeve_chassis.rpc.http2.engines import Engine
from keyreeve_chassis.rpc.limits import ByteBudget
from keyreeve_chassis.rpc.listener import Listener
from keyreeve_chassis.rpc.server import listener_limits
from keyreeve_chassis.settings.serving import ServingSettings
from support.http2_peer import ENGINES
from support.waiting import wait_until

CODES = {code.value[0]: code for code in grpc.StatusCode}
DETAILS = "grpc-status-details-bin"
OWN = {"x-first", "x-last", "x-last-bin"}
KINDS = {"unary_unary": Kind.UNARY, "unary_stream": Kind.SERVER_STREAM, "stream_unary": Kind.CLIENT_STREAM}
MOST = 2 * 1024 * 1024


@dataclass(frozen=True)
class Plan:
    """What a call asks its handler to do."""

    kind: str
    requests: tuple[int, ...]
    """Sizes of what is sent beside the plan."""
    answers: tuple[int, ...]
    code: int
    message: str
    details: bytes
    metadata: tuple[tuple[str, str | bytes], ...]
    hang: bool = False
    own: str = ""
    """Metadata of the handler, before and after its answers."""
    cancel: bool = False
    """The client cancels it while the handler waits."""

    def encode(self) -> bytes:
        answers = () if self.cancel else self.answers
        told = {"answers": answers, "code": self.code, "message": self.message, "details": self.details.hex()}
        return json.dumps({**told, "hang": self.hang or self.cancel, "own": self.own}).encode()


class Outcome(Exception):
    """How a handler ends a call."""


@dataclass
class Waiting:
    """Handlers that wait on one side, and those of them that were cancelled."""

    begun: int = 0
    cancelled: int = 0

    async def wait(self) -> None:
        self.begun += 1
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise


WAITING = {"ours": Waiting(), "theirs": Waiting()}
SIDE = "side"


async def act(requests: AsyncIterator[bytes], metadata: Any, own: Any) -> AsyncIterator[bytes]:
    """Do what the first request says; `own` sets the handler's metadata."""
    told = json.loads(await anext(requests))
    trailing = (("x-last-bin", told["own"].encode()), ("x-last", told["own"])) if told["own"] else ()
    if told["own"]:
        await own((("x-first", told["own"]),), trailing)
    sizes = [len(one) async for one in requests]
    seen = sorted((key, value) for key, value in metadata if key.startswith("x-"))
    yield repr((sizes, seen)).encode()
    for size in told["answers"]:
        yield b"a" * size
    if told["hang"]:
        await WAITING[dict(metadata)[SIDE]].wait()
    if told["code"]:
        raise Outcome(told["code"], told["message"], ((DETAILS, bytes.fromhex(told["details"])),), trailing)


async def one(request: bytes) -> AsyncIterator[bytes]:
    yield request


class Ours:
    """The handlers as routes."""

    def route(self, name: str) -> Route:
        kind = KINDS.get(name.rpartition("/")[2], Kind.BIDI_STREAM)

        async def unary(request: bytes, context: Any) -> Any:
            async def own(initial: Any, trailing: Any) -> None:
                context.set_metadata(initial=initial, trailing=trailing)

            try:
                return b"".join([answer async for answer in act(one(request), context.metadata, own)])
            except Outcome as told:
                return told.args[:3]

        async def stream(requests: Any, context: Any) -> Any:
            incoming = one(requests) if isinstance(requests, bytes) else requests
            answers = []

            async def own(initial: Any, trailing: Any) -> None:
                context.set_metadata(initial=initial, trailing=trailing)

            try:
                async for answer in act(incoming, context.metadata, own):
                    answers.append(answer)
                    if kind is not Kind.CLIENT_STREAM:
                        await context.write(answer)
            except Outcome as told:
                return told.args[:3]
            if kind is Kind.CLIENT_STREAM:
                await context.write(b"".join(answers))
            return None

        return Route(kind, unary if kind is Kind.UNARY else None, stream, lambda _: None, stream)


class Theirs(grpc.GenericRpcHandler):
    """The handlers for grpcio's server."""

    def service(self, details: grpc.HandlerCallDetails) -> Any:
        kind = details.method.rpartition("/")[2]

        async def own(context: Any, initial: Any, trailing: Any) -> None:
            await context.send_initial_metadata(initial)
            context.set_trailing_metadata(trailing)

        async def single(requests: Any, context: Any) -> bytes:
            incoming = one(requests) if isinstance(requests, bytes) else requests
            try:
                return b"".join(
                    [
                        answer
                        async for answer in act(incoming, context.invocation_metadata() or (), partial(own, context))
                    ]
                )
            except Outcome as told:
                code, message, details, trailing = told.args
                await context.abort(CODES[code], message, (*details, *trailing))

        async def several(requests: Any, context: Any) -> Any:
            incoming = one(requests) if isinstance(requests, bytes) else requests
            try:
                async for answer in act(incoming, context.invocation_metadata() or (), partial(own, context)):
                    await context.write(answer)
            except Outcome as told:
                code, message, details, trailing = told.args
                await context.abort(CODES[code], message, (*details, *trailing))

        return getattr(grpc, f"{kind}_rpc_method_handler")(single if kind.endswith("unary") else several)


@asynccontextmanager
async def both(engine: Engine = ENGINES[0]) -> AsyncIterator[tuple[grpc.aio.Channel, grpc.aio.Channel]]:
    limits = listener_limits(ServingSettings(request_bytes=MOST))
    listener = Listener(Ours(), limits, ByteBudget(1 << 28), None, engine=engine)
    port = listener.listen("127.0.0.1", 0)
    server = grpc.aio.server(handlers=[Theirs()], options=[("grpc.max_receive_message_length", MOST)])
    other = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    options = [("grpc.max_receive_message_length", -1), ("grpc.use_local_subchannel_pool", 1)]
    try:
        async with (
            grpc.aio.insecure_channel(f"127.0.0.1:{other}", options=options) as theirs,
            grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=options) as ours,
        ):
            yield theirs, ours
    finally:
        await listener.stop(0)
        await server.stop(0)


async def outcome(channel: grpc.aio.Channel, plan: Plan, side: str) -> tuple[Any, ...]:
    """Make the call; return everything that a client sees, and whether its handler was cancelled."""
    requests = [plan.encode(), *(b"r" * size for size in plan.requests)]
    call = getattr(channel, plan.kind)(f"/t.S/{plan.kind}")
    sent = call(
        requests[0] if plan.kind.startswith("unary") else iter(requests),
        timeout=0.3 if plan.hang and not plan.cancel else 30,
        metadata=(*plan.metadata, (SIDE, side)),
    )
    if plan.cancel:
        return await cancelled(sent, plan, side)
    answers = []
    try:
        if plan.kind.endswith("unary"):
            answers.append(await sent)
        else:
            answers.extend([answer async for answer in sent])
    except grpc.aio.AioRpcError:
        """What was received before it counts too."""
    code = await sent.code()
    trailing = [(key, value) for key, value in (await sent.trailing_metadata() or ()) if key == DETAILS or key in OWN]
    initial = [(key, value) for key, value in (await sent.initial_metadata() or ()) if key in OWN]
    if plan.hang:  # either end may notice the deadline first, and ours sends initial metadata with the first message
        await wait_until("its handler is cancelled", lambda: WAITING[side].begun == WAITING[side].cancelled)
        return code, answers
    return code, await sent.details(), initial, sorted(trailing), answers


async def cancelled(sent: Any, plan: Plan, side: str) -> tuple[Any, ...]:
    """Cancel a call whose handler waits."""
    waiting = WAITING[side]
    first = None if plan.kind.endswith("unary") else await sent.read()
    await wait_until("its handler waits", lambda: waiting.begun > waiting.cancelled)
    sent.cancel()
    code = await sent.code()
    await wait_until("its handler is cancelled", lambda: waiting.begun == waiting.cancelled)
    return code, first


SIZES = st.one_of(st.integers(0, 100), st.sampled_from([0, 16384, 65530, 65535, 65536, 200_000, 1_000_000, MOST]))
VALUES = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=20)
METADATA = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["x-a", "x-b.c_d"]), VALUES),
        st.tuples(st.just("x-data-bin"), st.binary(max_size=40)),
    ),
    max_size=4,
).map(tuple)
PLANS = st.builds(
    Plan,
    kind=st.sampled_from(["unary_unary", "unary_stream", "stream_unary", "stream_stream"]),
    requests=st.lists(SIZES, max_size=4).map(tuple),
    answers=st.lists(SIZES, max_size=4).map(tuple),
    code=st.sampled_from([0, 0, 1, 2, 3, 5, 8, 13, 14, 16]),
    message=st.text(st.characters(exclude_categories=["Cs"]), max_size=60),
    details=st.binary(min_size=1, max_size=3000),
    metadata=METADATA,
    hang=st.sampled_from([False, False, False, False, True]),
    own=st.sampled_from(["", "", "mine"]),
    cancel=st.sampled_from([False, False, False, True]),
)


@pytest.mark.parametrize("engine", ENGINES, ids=lambda engine: engine.library)
@settings(
    # A failing plan is told as it is: to shrink it would take minutes.
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    max_examples=8,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(st.lists(PLANS, min_size=5, max_size=12))
def test_a_call_has_the_same_outcome_on_both(engine, plans):
    async def compare() -> None:
        async with both(engine) as (theirs, ours):
            for plan in plans:
                expected, found = await asyncio.gather(outcome(theirs, plan, "theirs"), outcome(ours, plan, "ours"))
                assert found == expected, plan

    asyncio.run(compare())


async def test_many_calls_at_once_on_one_connection_have_their_own_outcomes():
    plans = [Plan("stream_stream", (n * 1000, 10), (n * 500, 3), n % 3, f"no {n}", b"d", ()) for n in range(60)]
    async with both() as (theirs, ours):
        expected = await asyncio.gather(*(outcome(theirs, plan, "theirs") for plan in plans))
        assert await asyncio.gather(*(outcome(ours, plan, "ours") for plan in plans)) == expected


async def test_a_message_beyond_the_limit_is_refused_alike():
    plan = Plan("stream_unary", (MOST + 1,), (), 0, "", b"", ())
    async with both() as (theirs, ours):
        codes = {(await outcome(channel, plan, side))[0] for side, channel in (("theirs", theirs), ("ours", ours))}
    assert codes == {grpc.StatusCode.RESOURCE_EXHAUSTED}
