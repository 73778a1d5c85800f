"""Every RPC has a typed method, and every error reason arrives as its own class."""

import uuid
from collections.abc import AsyncIterator, Callable
from datetime import timedelta

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]

from keyreeve import errors, values
from keyreeve.caller_values import CallersUpdate, IssuingAuthority, MemberRecord, OperatorRecord
from keyreeve.errors import KeyreeveError, Violation
from keyreeve.retry import NO_RETRY
from support.fake_ca_server import METHODS, FakeCa, Refusal
from support.sdk_calls import BEGIN, END, EXAMPLES, SERIAL
from support.sdk_forms import ClientForm

UNARY = sorted(name for name in EXAMPLES if not name.startswith("Watch"))
VALUES = {
    "keyreeve.audit.values",
    "keyreeve.audit.verifying",
    "keyreeve.values",
    "keyreeve.token_values",
    "keyreeve.operation_values",
    "keyreeve.session_values",
    "keyreeve.errors",
    "builtins",
}


def test_every_rpc_of_the_contract_has_an_example() -> None:
    # These are on another listener, and called while there is nothing to make a client of.
    without = {"Enroll", "ExchangeServiceAccountToken", "RenewExpired"}
    assert {method.name for method in METHODS.values()} == {*without, *EXAMPLES}


@pytest.mark.parametrize("name", UNARY)
async def test_every_rpc_has_a_method_that_gives_values(fake: FakeCa, form: ClientForm, name: str) -> None:
    fake.answer(name, EXAMPLES[name].answer)
    result = await form.run(fake.context, EXAMPLES[name].call)
    assert fake.methods() == [name]
    for one in result if isinstance(result, list | tuple) else [result]:
        assert type(one).__module__ in VALUES, "no message leaves the client"


@pytest.mark.parametrize("name", UNARY)
async def test_every_mutation_carries_a_request_id_of_version_7(fake: FakeCa, form: ClientForm, name: str) -> None:
    fake.answer(name, EXAMPLES[name].answer)
    await form.run(fake.context, EXAMPLES[name].call)
    request = fake.received[0].request
    if "request_id" in request.DESCRIPTOR.fields_by_name:
        assert uuid.UUID(request.request_id).version == 7
        assert request.request_id == str(uuid.UUID(request.request_id))
    else:
        # RenewSession stores nothing: each answer is another ticket of the same session.
        assert name.startswith(("Get", "List", "Export", "Simulate", "Verify", "RenewSession"))


async def test_the_stream_of_bundles_gives_values(fake: FakeCa, form: ClientForm) -> None:
    fake.answer("WatchBundle", EXAMPLES["WatchBundle"].answer)

    def first(client: object) -> object:
        bundles = EXAMPLES["WatchBundle"].call(client)

        async def of_async() -> object:
            bundle = await anext(bundles)
            await bundles.aclose()
            return bundle

        return of_async() if isinstance(bundles, AsyncIterator) else next(bundles)

    assert isinstance(await form.run(fake.context, first), values.Bundle)


def first_updates(method: str, count: int) -> Callable[[object], object]:
    """Call an example's stream, for the first of its updates."""

    def first(client: object) -> object:
        updates = EXAMPLES[method].call(client)

        async def of_async() -> object:
            found = [await anext(updates) for _ in range(count)]
            await updates.aclose()
            return found

        return of_async() if isinstance(updates, AsyncIterator) else [next(updates) for _ in range(count)]

    return first


async def test_the_feed_of_callers_gives_values_and_goes_on_where_it_stopped(fake: FakeCa, form: ClientForm) -> None:
    snapshot, rest = EXAMPLES["WatchCallers"].answer  # type: ignore[misc]
    fake.script("WatchCallers", [snapshot], [snapshot, rest], [rest])

    found = await form.run(fake.context, first_updates("WatchCallers", 4))
    assert [one.seq for one in found] == [2, 2, 4, 4]
    asked = [(one.request.restore_generation, one.request.after_seq) for one in fake.received]
    assert asked == [(0, 0), (0, 0), (1, 4)], "a snapshot that was cut off begins anew"
    assert found[2] == CallersUpdate(
        1,
        2,
        4,
        4,
        int(BEGIN.timestamp()),
        (IssuingAuthority("authorities/control-issuing-1", values.AuthorityState.RETIRING, b"ca"),),
        (OperatorRecord("operators/ann", "uid-1", values.OperatorRole.ADMIN, int(BEGIN.timestamp()), removed=True),),
        ((b"@" * 16, int(END.timestamp())),),
        b"signature",
        (b"leaf", b"issuer"),
        (MemberRecord("uid-2", "spiffe://example.test/members/b", "arrays/one", values.MemberState.JOINING),),
    )


async def test_the_stream_of_revoked_certificates_goes_on_where_it_stopped(fake: FakeCa, form: ClientForm) -> None:
    [update] = EXAMPLES["WatchRevokedCertificates"].answer  # type: ignore[misc]
    fake.script("WatchRevokedCertificates", [update], [update])

    for one in await form.run(fake.context, first_updates("WatchRevokedCertificates", 2)):
        assert isinstance(one, values.RevokedCertificates)
        assert [type(each) for each in one.certificates] == [values.Certificate]
    asked = [(one.request.restore_generation, one.request.after_seq) for one in fake.received]
    assert asked == [(1, 7), (1, 9)]


async def test_a_signed_certificate_says_what_the_ledger_has(fake: FakeCa, form: ClientForm) -> None:
    fake.answer("SignCertificate", EXAMPLES["SignCertificate"].answer)
    signed = await form.run(fake.context, EXAMPLES["SignCertificate"].call)
    assert signed == values.SignedCertificate(
        name=f"certificates/{SERIAL}",
        authority="authorities/estate-2",
        certificate_der=b"leaf",
        chain_der=(b"issuing",),
        not_before=BEGIN,
        not_after=END,
        renew_at=BEGIN + timedelta(days=20),
    )
    assert signed.serial == SERIAL
    item = fake.received[0].request.item
    assert item.profile == "profiles/server"
    assert item.authority == "authorities/estate-2"
    assert item.lifetime.ToTimedelta() == timedelta(days=1)
    assert [(name.type, name.value) for name in item.names] == [(1, "web.example.test")]


@pytest.mark.parametrize("reason", list(errors.register()))
async def test_every_reason_arrives_as_its_own_class(fake: FakeCa, form: ClientForm, reason: str) -> None:
    kind = errors.register()[reason]
    violations = [Violation("items[3].csr", "wrong")]
    sent = kind("what happened", violations=violations, metadata={"max_bytes": "5"}, retry_after=timedelta(seconds=7))
    fake.answer("GetAuthority", sent)
    with pytest.raises(KeyreeveError) as caught:
        await form.run(fake.context, EXAMPLES["GetAuthority"].call, timeout=5)
    assert type(caught.value) is kind
    assert caught.value.message == "what happened"
    assert caught.value.violations == tuple(violations)
    assert caught.value.retry_after == timedelta(seconds=7)
    assert caught.value.metadata["max_bytes"] == "5"
    assert fake.methods() == ["GetAuthority"], "a wait longer than the caller's time is not begun"


PLAIN = {
    grpc.StatusCode.UNAVAILABLE: errors.ServiceUnreachable,
    grpc.StatusCode.DEADLINE_EXCEEDED: errors.DeadlinePassed,
    grpc.StatusCode.UNIMPLEMENTED: errors.MethodUnknown,
    grpc.StatusCode.INTERNAL: errors.InternalError,
    grpc.StatusCode.UNAUTHENTICATED: errors.Unauthenticated,
    grpc.StatusCode.PERMISSION_DENIED: errors.PermissionDenied,
    grpc.StatusCode.RESOURCE_EXHAUSTED: errors.ResourceExhausted,
    grpc.StatusCode.INVALID_ARGUMENT: errors.InvalidArgument,
    grpc.StatusCode.NOT_FOUND: errors.NotFound,
    grpc.StatusCode.UNKNOWN: KeyreeveError,
    grpc.StatusCode.DATA_LOSS: KeyreeveError,
}


@pytest.mark.parametrize("code", PLAIN, ids=lambda code: code.name)
async def test_a_status_without_details_becomes_what_its_code_says(
    fake: FakeCa, form: ClientForm, code: grpc.StatusCode
) -> None:
    fake.answer("GetAuthority", Refusal(code))
    with pytest.raises(KeyreeveError) as caught:
        await form.run(fake.context, EXAMPLES["GetAuthority"].call, retry=NO_RETRY)
    assert type(caught.value) is PLAIN[code]
    assert "ca at 127.0.0.1:" in caught.value.message


def _details(code: grpc.StatusCode, domain: str, reason: str) -> tuple[tuple[str, bytes], ...]:
    status = status_pb2.Status(code=code.value[0], message="from elsewhere")
    status.details.add().Pack(error_details_pb2.ErrorInfo(domain=domain, reason=reason))
    return (("grpc-status-details-bin", status.SerializeToString()),)


async def test_a_reason_of_a_newer_service_becomes_the_family_of_its_code(fake: FakeCa, form: ClientForm) -> None:
    code = grpc.StatusCode.FAILED_PRECONDITION
    fake.answer("GetAuthority", Refusal(code, "x", _details(code, "keyreeve", "MOON_WRONG")))
    with pytest.raises(errors.FailedPrecondition) as caught:
        await form.run(fake.context, EXAMPLES["GetAuthority"].call)
    assert caught.value.metadata["reason"] == "MOON_WRONG"


async def test_a_reason_of_another_domain_is_not_ours(fake: FakeCa, form: ClientForm) -> None:
    code = grpc.StatusCode.NOT_FOUND
    fake.answer("GetAuthority", Refusal(code, "x", _details(code, "proxy.example", "CSR_MALFORMED")))
    with pytest.raises(KeyreeveError) as caught:
        await form.run(fake.context, EXAMPLES["GetAuthority"].call)
    assert type(caught.value) is errors.NotFound


async def test_details_that_cannot_be_read_do_not_hide_the_code(fake: FakeCa, form: ClientForm) -> None:
    refusal = Refusal(grpc.StatusCode.NOT_FOUND, "x", (("grpc-status-details-bin", b"\xff\xff"),))
    fake.answer("GetAuthority", refusal)
    with pytest.raises(errors.NotFound):
        await form.run(fake.context, EXAMPLES["GetAuthority"].call)
