"""Calls through the guard, seen from a client."""

import asyncio
import gc
from datetime import timedelta

import grpc
import pytest
from google.protobuf.message import Message
from prometheus_client import CollectorRegistry

from keyreeve.errors import AuthorityStateWrong, FieldInvalid, StoreUnavailable, Violation
from keyreeve_chassis.audit.recording import Recorder
from keyreeve_chassis.audit.trail import Trail
from keyreeve_chassis.guard.call import Call
from keyreeve_chassis.guard.router import Router
from keyreeve_chassis.settings.serving import ServingSettings
from keyreeve_chassis.telemetry.calls import CallTelemetry
from keyreeve_chassis.telemetry.metrics import ServerMetrics
from support.echo_service import (
    ADMIN_ECHO,
    ECHO,
    JOIN,
    WATCH,
    EchoRequest,
    EchoResponse,
    EchoServicer,
    echo_service,
)
from support.running import Harness, refused, serving


def admin(server: Harness) -> grpc.aio.Channel:
    return server.channel(server.hierarchies.control.person("operators/admin/ann"))


def auditor(server: Harness) -> grpc.aio.Channel:
    return server.channel(server.hierarchies.control.person("operators/auditor/ada"))


def echo(channel: grpc.aio.Channel):
    return channel.unary_unary(ECHO, EchoRequest.SerializeToString, EchoResponse.FromString)


def acting(act) -> EchoServicer:
    servicer = EchoServicer()
    servicer.act = act
    return servicer


async def test_a_handler_gets_the_message_the_verified_caller_and_the_deadline():
    servicer = EchoServicer()
    async with serving([echo_service(servicer)]) as server, admin(server) as channel:
        answer = await echo(channel)(EchoRequest(text="hello"), timeout=20)
    call = servicer.calls[0]
    assert answer.text == "hello"
    assert str(call.caller) == "spiffe://example.test/operators/admin/ann"
    assert call.method == ECHO
    assert 0 < call.remaining() <= 21
    assert call.peer.startswith("ipv4:127.0.0.1:")
    assert call.tls.version == "TLSv1.3"


async def test_a_client_stream_is_answered_once_with_all_that_it_sent():
    async with serving([echo_service()]) as server, admin(server) as channel:
        join = channel.stream_unary(JOIN, EchoRequest.SerializeToString, EchoResponse.FromString)
        answer = await join((EchoRequest(text=word) for word in ("one", "two", "three")), timeout=5)
    assert answer.text == "one two three"


async def test_an_error_of_ours_arrives_with_one_error_info_and_what_helps():
    async def fail(request: Message, call: Call) -> Message:
        raise FieldInvalid(
            "two fields are wrong",
            violations=[Violation("items[0].csr", "is empty"), Violation("profile", "is missing")],
            metadata={"hint": "a\nb"},
        )

    async with serving([echo_service(acting(fail))]) as server, admin(server) as channel:
        told = await refused(echo(channel)(EchoRequest(), timeout=20, metadata=[("x-request-id", "mine-1234")]))
    assert (told.code, told.reason, told.infos, told.domain) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "FIELD_INVALID",
        1,
        "keyreeve",
    )
    assert told.metadata == {"hint": "a\\u000ab", "request_id": "mine-1234"}
    assert told.violations == [("items[0].csr", "is empty"), ("profile", "is missing")]


async def test_a_failed_precondition_and_a_wait_arrive_in_their_own_details():
    async def fail(request: Message, call: Call) -> Message:
        if request.text == "state":
            raise AuthorityStateWrong("it is retired", violations=[Violation("authorities/a", "retired")])
        raise StoreUnavailable("no answer", retry_after=timedelta(milliseconds=1500))

    async with serving([echo_service(acting(fail))]) as server, admin(server) as channel:
        state = await refused(echo(channel)(EchoRequest(text="state"), timeout=20))
        store = await refused(echo(channel)(EchoRequest(), timeout=20))
    assert (state.code, state.violations) == (grpc.StatusCode.FAILED_PRECONDITION, [("authorities/a", "retired")])
    assert (store.code, store.retry_after) == (grpc.StatusCode.UNAVAILABLE, timedelta(seconds=1.5))


async def test_the_text_of_an_unexpected_failure_never_leaves_the_server(capfd):
    async def fail(request: Message, call: Call) -> Message:
        raise RuntimeError("password=hunter2")

    async with serving([echo_service(acting(fail))]) as server, admin(server) as channel:
        told = await refused(echo(channel)(EchoRequest(), timeout=20))
    assert (told.code, told.reason) == (grpc.StatusCode.INTERNAL, "INTERNAL")
    assert told.message == f"internal error, request id {told.metadata['request_id']}"
    logged = capfd.readouterr()
    assert told.metadata["request_id"] in logged.out + logged.err
    assert "RuntimeError" in logged.out + logged.err


async def test_a_cancellation_that_leaks_out_of_a_handler_is_an_internal_error():
    async def fail(request: Message, call: Call) -> Message:
        raise asyncio.CancelledError

    async with serving([echo_service(acting(fail))]) as server, admin(server) as channel:
        told = await refused(echo(channel)(EchoRequest(), timeout=20))
    assert told.reason == "INTERNAL"


async def test_a_servicer_that_answers_with_another_type_is_an_internal_error():
    async def fail(request: Message, call: Call) -> Message:
        return request

    async with serving([echo_service(acting(fail))]) as server, admin(server) as channel:
        assert (await refused(echo(channel)(EchoRequest(), timeout=20))).reason == "INTERNAL"


async def test_an_answer_with_a_thousand_violations_still_arrives():
    async def fail(request: Message, call: Call) -> Message:
        raise FieldInvalid("much", violations=[Violation(f"items[{n}]", "\U0001f600" * 400) for n in range(1000)])

    async with serving([echo_service(acting(fail))]) as server, admin(server) as channel:
        told = await refused(echo(channel)(EchoRequest(), timeout=20))
    assert told.reason == "FIELD_INVALID"
    assert 1 <= len(told.violations) < 1000
    assert int(told.metadata["violations_omitted"]) == 1000 - len(told.violations)


@pytest.mark.parametrize("seconds", [None, 3600])
async def test_a_call_without_a_deadline_or_with_a_far_one_is_refused(seconds):
    async with serving([echo_service()], deadline=30) as server, admin(server) as channel:
        told = await refused(echo(channel)(EchoRequest(), timeout=seconds))
        longest = await echo(channel)(EchoRequest(text="x"), timeout=30)
    assert (told.reason, told.metadata["max_seconds"]) == ("DEADLINE_REQUIRED", "30")
    assert longest.text == "x"


async def test_a_handler_is_cancelled_when_the_deadline_passes():
    ended = asyncio.Event()

    async def wait(request: Message, call: Call) -> Message:
        try:
            return await asyncio.Event().wait()
        finally:
            ended.set()

    async with serving([echo_service(acting(wait))]) as server, admin(server) as channel:
        told = await refused(echo(channel)(EchoRequest(), timeout=0.2))
        await asyncio.wait_for(ended.wait(), 20)
    assert told.code is grpc.StatusCode.DEADLINE_EXCEEDED


async def test_a_handler_is_cancelled_when_its_caller_goes_away():
    began, ended = asyncio.Event(), asyncio.Event()

    async def wait(request: Message, call: Call) -> Message:
        began.set()
        try:
            return await asyncio.Event().wait()
        finally:
            ended.set()

    async with serving([echo_service(acting(wait))]) as server, admin(server) as channel:
        call = echo(channel)(EchoRequest(), timeout=20)
        await asyncio.wait_for(began.wait(), 20)
        call.cancel()
        await asyncio.wait_for(ended.wait(), 20)


@pytest.mark.parametrize(
    "name",
    [
        "/test.echo.v1.EchoService/Nothing",
        "/test.echo.v1.EchoService/echo",
        "/test.echo.v1.EchoService/Echo/",
        "//test.echo.v1.EchoService/Echo",
        "/test.echo.v1.EchoService/%45cho",
        "/test.echo.v1.EchoService/Echo?x=1",
        "test.echo.v1.EchoService/Echo",
        "/TEST.echo.v1.EchoService/Echo",
    ],
)
async def test_only_the_exact_name_of_a_method_reaches_a_handler(name):
    servicer = EchoServicer()
    async with serving([echo_service(servicer)]) as server, admin(server) as channel:
        told = await refused(channel.unary_unary(name)(b"", timeout=20))
    assert told.reason in {"METHOD_UNKNOWN", None}
    assert told.code in {grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL}
    assert servicer.calls == []


async def test_a_caller_without_access_is_refused_before_the_request_is_read():
    async with serving([echo_service()]) as server, auditor(server) as channel:
        told = await refused(channel.unary_unary(ADMIN_ECHO)(b"\xff"))
    assert (told.reason, told.metadata["allowed"]) == ("ACCESS_DENIED", "operators/admin")


async def test_identity_in_metadata_is_nothing():
    async with serving([echo_service()]) as server, auditor(server) as channel:
        claims = [
            ("x-forwarded-client-cert", "URI=spiffe://example.test/operators/admin/ann"),
            ("x-forwarded-client-cert", "By=spiffe://example.test/services/ca/one"),
            ("authorization", "Bearer admin"),
        ]
        told = await refused(channel.unary_unary(ADMIN_ECHO)(b"", timeout=20, metadata=claims))
    assert told.reason == "ACCESS_DENIED"


async def test_calls_beyond_the_cap_are_refused_at_once_with_a_wait():
    began, go = asyncio.Event(), asyncio.Event()

    async def wait(request: Message, call: Call) -> Message:
        began.set()
        await go.wait()
        return EchoResponse(text="done")

    async with serving([echo_service(acting(wait))], calls_in_flight=1) as server, admin(server) as channel:
        first = echo(channel)(EchoRequest(), timeout=20)
        await asyncio.wait_for(began.wait(), 20)
        told = await refused(echo(channel)(EchoRequest(), timeout=20))
        go.set()
        assert (await first).text == "done"
        assert (await echo(channel)(EchoRequest(), timeout=20)).text == "done"
        assert server.running.guard.in_flight == 0
    assert (told.code, told.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_IN_FLIGHT")
    assert told.retry_after == timedelta(seconds=0.2)


async def test_one_identity_cannot_take_all_the_room_there_is():
    began, go = asyncio.Semaphore(0), asyncio.Event()

    async def wait(request: Message, call: Call) -> Message:
        began.release()
        await go.wait()
        return EchoResponse(text="done")

    async with serving([echo_service(acting(wait))], calls_in_flight=4) as server:
        heavy = server.hierarchies.control.person("members/web.example.test")
        light = server.hierarchies.control.person("members/db.example.test")
        async with server.channel(heavy) as many, server.channel(light) as one:
            waiting = [echo(many)(EchoRequest(), timeout=20) for _ in range(3)]
            for _ in waiting:
                await asyncio.wait_for(began.acquire(), 20)
            told = await refused(echo(many)(EchoRequest(), timeout=20))
            waiting.append(echo(one)(EchoRequest(), timeout=20))
            await asyncio.wait_for(began.acquire(), 20)
            go.set()
            assert [(await call).text for call in waiting] == ["done"] * 4
            assert (await echo(many)(EchoRequest(), timeout=20)).text == "done"
    assert (told.code, told.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_IN_FLIGHT")
    assert told.metadata["most"] == "3"


async def test_one_identity_may_be_busy_on_so_many_connections_only():
    servicer = EchoServicer()
    async with serving([echo_service(servicer)], connections_per_peer=1) as server:
        ann = server.hierarchies.control.person("members/web.example.test")
        bob = server.hierarchies.control.person("members/db.example.test")
        async with server.channel(ann) as first, server.channel(ann) as second, server.channel(bob) as other:
            stream = first.unary_stream(WATCH, EchoRequest.SerializeToString, EchoResponse.FromString)(EchoRequest())
            await stream.read()
            told = await refused(echo(second)(EchoRequest(), timeout=20))
            assert (await echo(first)(EchoRequest(text="same"), timeout=20)).text == "same"
            assert (await echo(other)(EchoRequest(text="other"), timeout=20)).text == "other"
            servicer.feed.put_nowait(None)
            assert await stream.read() is grpc.aio.EOF
            assert (await echo(second)(EchoRequest(text="now"), timeout=20)).text == "now"
    assert (told.code, told.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_CONNECTIONS")


async def test_a_message_beyond_the_limit_is_refused_compressed_or_not():
    servicer = EchoServicer()
    async with serving([echo_service(servicer)], request_bytes=4096) as server, admin(server) as channel:
        plain = await refused(echo(channel)(EchoRequest(text="x" * 5000), timeout=20))
        bomb = await refused(
            echo(channel)(EchoRequest(text="x" * 3_000_000), timeout=20, compression=grpc.Compression.Gzip)
        )
        assert (await echo(channel)(EchoRequest(text="fits"), timeout=20)).text == "fits"
    assert plain.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert bomb.code in {grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNIMPLEMENTED}
    assert len(servicer.calls) == 1


async def test_metadata_beyond_the_limit_does_not_reach_the_handler():
    servicer = EchoServicer()
    async with serving([echo_service(servicer)]) as server, admin(server) as channel:
        told = await refused(echo(channel)(EchoRequest(), timeout=20, metadata=[("x-much", "x" * 40_000)]))
        assert (await echo(channel)(EchoRequest(text="fine"), timeout=20)).text == "fine"
    assert told.code in {grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE}
    assert len(servicer.calls) == 1


async def test_fields_and_numbers_that_are_not_known_are_refused_by_path():
    async with serving([echo_service()]) as server, admin(server) as channel:
        request = EchoRequest()
        request.items.add().child.child.color = 7
        number = await refused(echo(channel)(request, timeout=20))
        field = await refused(channel.unary_unary(ECHO)(b"\xfa\x07\x01x", timeout=20))
    assert (number.reason, number.violations[0][0]) == ("FIELD_INVALID", "items[0].child.child.color")
    assert field.reason == "FIELD_INVALID"


async def test_a_forwarded_method_is_checked_here_and_run_there():
    there = EchoServicer()
    far = Router([echo_service(there)])
    handed: list[tuple[str, bytes, Call]] = []

    async def forward(method: str, request: bytes, call: Call) -> bytes:
        handed.append((method, request, call))
        return await far.invoke(method, request, Call(method, call.caller, deadline=call.deadline))

    here = EchoServicer()
    router = Router([echo_service(here, forwarded=frozenset({ECHO}))], forward)
    async with serving(router) as server, admin(server) as channel:
        answer = await echo(channel)(EchoRequest(text="far"), timeout=20)
        told = await refused(channel.unary_unary(ECHO)(b"\xff", timeout=20))
        local = await channel.unary_unary(ADMIN_ECHO)(EchoRequest(text="near").SerializeToString(), timeout=20)
    assert answer.text == "far"
    assert told.reason == "FIELD_INVALID"
    assert EchoResponse.FromString(local).text == "near"
    assert [method for method, _, _ in handed] == [ECHO, ECHO]
    assert str(handed[0][2].caller) == "spiffe://example.test/operators/admin/ann"
    assert ([call.method for call in here.calls], [call.method for call in there.calls]) == ([ADMIN_ECHO], [ECHO])


@pytest.mark.parametrize("text", ["good", "bad"])
async def test_a_call_that_is_over_leaves_its_request_to_no_garbage_collector(text):
    async def answer(request: Message, call: Call) -> Message:
        if request.text == "bad":
            raise FieldInvalid("it is bad")
        return EchoResponse()

    async def write(records) -> None:
        """Forget them."""

    servicer = acting(answer)
    gc.collect()
    gc.disable()
    try:
        async with serving([echo_service(servicer)], trail=Trail(Recorder(write))) as server, admin(server) as channel:
            for _ in range(9):
                call = echo(channel)(EchoRequest(text=text), timeout=20)
                assert await call.code() is (grpc.StatusCode.OK if text == "good" else grpc.StatusCode.INVALID_ARGUMENT)
        assert len(servicer.calls) == 9
        servicer.calls.clear()
        assert not [left for left in gc.get_objects() if isinstance(left, Call) and left.method == ECHO]
    finally:
        gc.enable()


async def test_each_call_is_counted_with_its_code_and_reason():
    store = CollectorRegistry()
    async with serving([echo_service()], telemetry=CallTelemetry(ServerMetrics(store))) as server:
        async with admin(server) as channel:
            await echo(channel)(EchoRequest(), timeout=20)
            await refused(echo(channel)(EchoRequest()))
            for n in range(3):
                await refused(channel.unary_unary(f"/x.Y/Z{n}")(b"", timeout=20))
        await server.running.stop(5)

    def count(family: str, service: str, method: str, **labels: str) -> float | None:
        names = {"grpc_type": "unary", "grpc_service": service, "grpc_method": method}
        return store.get_sample_value(family, names | labels)

    echoed = ("test.echo.v1.EchoService", "Echo")
    assert count("grpc_server_started_total", *echoed) == 2
    assert count("grpc_server_handled_total", *echoed, grpc_code="OK", reason="") == 1
    assert count("grpc_server_handled_total", *echoed, grpc_code="INVALID_ARGUMENT", reason="DEADLINE_REQUIRED") == 1
    assert count("grpc_server_handling_seconds_count", *echoed) == 2
    unknown = count(
        "grpc_server_handled_total", "unknown", "unknown", grpc_code="UNIMPLEMENTED", reason="METHOD_UNKNOWN"
    )
    assert unknown == 3


async def test_only_methods_that_take_batches_read_large_requests():
    async with serving([echo_service()]) as server, admin(server) as channel:
        large = EchoRequest(text="x" * (ServingSettings().single_request_bytes + 1))
        assert (await echo(channel)(large, timeout=20)).text == large.text
        told = await refused(channel.unary_unary(ADMIN_ECHO, EchoRequest.SerializeToString)(large, timeout=20))
    assert told.code is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_more_calls_than_a_connection_has_streams_wait_for_their_turn():
    async with serving([echo_service()], streams_per_connection=4) as server, admin(server) as channel:
        answers = await asyncio.gather(*(echo(channel)(EchoRequest(text=str(n)), timeout=20) for n in range(50)))
    assert [one.text for one in answers] == [str(n) for n in range(50)]
