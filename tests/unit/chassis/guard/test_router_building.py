# ruff: noqa: N802  # handlers have the names of the methods
from dataclasses import replace

import pytest

from keyreeve.errors import AccessDenied, FieldInvalid, MethodUnknown
from keyreeve.identity import Caller, Role, SpiffeId
from keyreeve_chassis.guard.access import AccessRule
from keyreeve_chassis.guard.call import Call
from keyreeve_chassis.guard.router import Router, RouterIncomplete, ServedService, check_access
from keyreeve_chassis.rpc.limits import ByteBudget
from keyreeve_chassis.rpc.open_server import start_open_server
from keyreeve_chassis.settings.serving import ServingSettings
from support.echo_service import ADMIN_ECHO, ECHO, ROWS, SERVICE, WATCH, EchoRequest, EchoResponse, EchoServicer

ANN = Caller(SpiffeId.parse("spiffe://example.test/operators/admin/ann"), Role.ADMIN, 1)
ADA = Caller(SpiffeId.parse("spiffe://example.test/operators/auditor/ada"), Role.AUDITOR, 2)


def service(**changes) -> ServedService:
    return replace(ServedService(SERVICE, EchoServicer(), ROWS), **changes)


def without(name: str) -> dict[str, AccessRule]:
    return {key: row for key, row in ROWS.items() if key != name}


class Blocking(EchoServicer):
    def Echo(self, request, call):
        return EchoResponse()


class Coroutine(EchoServicer):
    async def Watch(self, request, call):
        return EchoResponse()


class Lacking:
    Echo = EchoServicer.Echo
    Watch = EchoServicer.Watch
    Count = EchoServicer.Count
    Join = EchoServicer.Join


@pytest.mark.parametrize(
    ("services", "gap"),
    [
        ([service(rows=without(ECHO))], f"{ECHO} has no access row"),
        ([service(rows=ROWS | {"/test.echo.v1.EchoService/Ech": ROWS[ECHO]})], "EchoService/Ech has no method"),
        ([service(servicer=Lacking())], "Lacking has no method AdminEcho"),
        ([service(servicer=Blocking())], "not `async def`"),
        ([service(servicer=Coroutine())], "answered by a coroutine"),
        ([service(rows=ROWS | {WATCH: replace(ROWS[WATCH], forwarded=True)})], "cannot be forwarded"),
        ([service(rows=ROWS | {ECHO: replace(ROWS[ECHO], long_stream=True)})], "answers once"),
        ([service(), service()], "served twice"),
        ([replace(service(), excluded_methods=frozenset({"Ech"}))], "said to be elsewhere and is nowhere"),
        ([replace(service(), excluded_methods=frozenset({"Echo"}))], "has no method"),
    ],
)
def test_a_router_with_a_gap_is_not_built(services, gap):
    with pytest.raises(RouterIncomplete, match=gap.replace("(", r"\(")):
        Router(services)


def test_a_router_does_not_know_what_another_listener_has():
    router = Router([replace(service(rows=without(ECHO)), excluded_methods=frozenset({"Echo"}))])
    assert ECHO not in router.methods
    with pytest.raises(MethodUnknown):
        router.method(ECHO)


async def test_a_listener_for_strangers_serves_only_what_is_open_to_anyone():
    with pytest.raises(ValueError, match="not open to anyone"):
        await start_open_server(ServingSettings(), Router([service()]), None, most_connections=1, budget=ByteBudget(1))


def test_all_gaps_are_reported_together():
    with pytest.raises(RouterIncomplete) as refused:
        Router([service(rows=without(ECHO), servicer=Lacking())])
    assert str(refused.value).count(";") == 1


def test_a_row_lists_roles_or_says_anyone():
    for wrong in ({}, {"roles": frozenset({Role.ADMIN}), "anyone": True}):
        with pytest.raises(ValueError, match="exactly one"):
            AccessRule(**wrong)


@pytest.mark.parametrize(("caller", "method"), [(ADA, ADMIN_ECHO), (None, ECHO), (ANN, "/x.Y/Z")])
def test_what_no_row_allows_is_denied_with_the_roles_that_may(caller, method):
    with pytest.raises(AccessDenied) as refused:
        check_access(ROWS, caller, method)
    roles = ROWS[method].roles if method in ROWS else ()
    assert refused.value.metadata["allowed"] == ", ".join(sorted(role.value for role in roles))


async def test_invoke_runs_a_method_outside_a_server():
    router = Router([service()])
    answer = await router.invoke(ECHO, EchoRequest(text="hi").SerializeToString(), Call(ECHO, ANN))
    assert EchoResponse.FromString(answer).text == "hi"


@pytest.mark.parametrize(
    ("method", "request_bytes", "caller", "refusal"),
    [
        (ADMIN_ECHO, b"", ADA, AccessDenied),
        (ECHO, b"\xff", ANN, FieldInvalid),
        (WATCH, b"", ANN, MethodUnknown),
        ("/test.echo.v1.EchoService/echo", b"", ANN, MethodUnknown),
    ],
)
async def test_invoke_applies_access_and_reads_strictly(method, request_bytes, caller, refusal):
    with pytest.raises(refusal):
        await Router([service()]).invoke(method, request_bytes, Call(method, caller))


async def test_a_streams_handler_is_closed_when_its_reader_stops():
    servicer = EchoServicer()
    method = Router([service(servicer=servicer)]).method(WATCH)
    stream = method.stream(EchoRequest(text="x").SerializeToString(), Call(WATCH, ANN))
    await anext(stream)
    await stream.aclose()
    assert servicer.watch_ended.is_set()
