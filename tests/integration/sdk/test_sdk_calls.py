"""SDK calls: deadlines, retries, pages, batches, renewal, closing."""

import asyncio
import hashlib
import threading
from datetime import timedelta
from typing import Any

import grpc
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

import keyreeve
from keyreeve import Context, SignItem, aio, make_csr, make_key
from keyreeve._async.calls import Caller
from keyreeve._async.rotating import RotatingChannel
from keyreeve.ca.v1 import authority_service_pb2 as authority_pb
from keyreeve.ca.v1 import certificate_service_pb2 as pb
from keyreeve.errors import (
    CertificateNotFound,
    ContextInvalid,
    DeadlinePassed,
    FieldInvalid,
    KeyreeveError,
    KeyWeak,
    ProfileVersionStale,
    RenewalProofRequired,
    ServiceStopping,
    ServiceUnreachable,
    TooManyInFlight,
)
from keyreeve.retry import NO_RETRY, RetryPolicy
from support.fake_ca_server import FakeCa, Refusal
from support.peer_certificates import TRUST_DOMAIN
from support.sdk_calls import AUTHORITY, BUNDLE, CERTIFICATE, EXAMPLES, SERIAL, SIGNED
from support.sdk_forms import ClientForm

QUICK = RetryPolicy(attempts=4, initial=0.001, maximum=0.001)
GET = EXAMPLES["GetAuthority"].call
SIGN = EXAMPLES["SignCertificate"].call


async def test_what_may_pass_is_repeated_with_the_same_request_id(fake: FakeCa, form: ClientForm) -> None:
    stopping = ServiceStopping("draining")
    fake.script("SignCertificate", stopping, Refusal(grpc.StatusCode.UNAVAILABLE), stopping, SIGNED)
    await form.run(fake.context, SIGN, retry=QUICK)
    assert len(fake.received) == 4
    assert len({one.request.request_id for one in fake.received}) == 1


async def test_two_calls_have_two_request_ids(fake: FakeCa, form: ClientForm) -> None:
    fake.answer("SignCertificate", SIGNED)
    await form.run(fake.context, SIGN)
    await form.run(fake.context, SIGN)
    assert len({one.request.request_id for one in fake.received}) == 2


async def test_it_gives_up_after_so_many_attempts(fake: FakeCa, form: ClientForm) -> None:
    fake.answer("GetAuthority", ServiceStopping("draining"))
    with pytest.raises(ServiceStopping):
        await form.run(fake.context, GET, retry=QUICK)
    assert len(fake.received) == 4


@pytest.mark.parametrize("error", [ProfileVersionStale("stale"), CertificateNotFound("none"), TooManyInFlight("full")])
async def test_what_cannot_pass_by_itself_is_not_repeated(fake: FakeCa, form: ClientForm, error: KeyreeveError) -> None:
    fake.answer("GetAuthority", error)
    with pytest.raises(type(error)):
        await form.run(fake.context, GET, retry=QUICK)
    assert len(fake.received) == 1


async def test_a_wait_that_the_service_asks_for_is_kept(fake: FakeCa) -> None:
    fake.script("GetAuthority", *[TooManyInFlight("full", retry_after=timedelta(seconds=3))] * 10, AUTHORITY)
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    channel = RotatingChannel(fake.context, "ca")
    caller = Caller(channel, timeout=60, policy=QUICK, sleep=sleep)
    request = authority_pb.GetAuthorityRequest(name="authorities/a")
    try:
        await caller.unary("/keyreeve.ca.v1.AuthorityService/GetAuthority", request, authority_pb.Authority)
    finally:
        await channel.close()
    assert len(waits) == 10, "such waits are bounded by the caller's time, not by the number of attempts"
    assert all(3 <= wait < 3.01 for wait in waits)


async def test_each_attempt_has_what_is_left_of_the_callers_time(fake: FakeCa) -> None:
    fake.script("GetAuthority", *[ServiceStopping("draining")] * 2, AUTHORITY)
    now = 100.0

    async def sleep(seconds: float) -> None:
        nonlocal now
        now += 10

    channel = RotatingChannel(fake.context, "ca")
    caller = Caller(channel, timeout=60, policy=QUICK, clock=lambda: now, sleep=sleep)
    request = authority_pb.GetAuthorityRequest(name="authorities/a")
    try:
        await caller.unary("/keyreeve.ca.v1.AuthorityService/GetAuthority", request, authority_pb.Authority)
        with pytest.raises(DeadlinePassed):
            await caller.unary("/x/y", request, authority_pb.Authority, timeout=0)
    finally:
        await channel.close()
    given = [one.seconds for one in fake.received]
    assert [round(seconds, -1) for seconds in given] == [60, 50, 40]


async def test_a_service_that_is_too_slow_ends_in_deadline_passed(fake: FakeCa, form: ClientForm) -> None:
    fake.hold("GetAuthority")
    with pytest.raises(DeadlinePassed):
        await form.run(fake.context, lambda client: client.authorities.get("a", timeout=0.05))


async def test_no_service_at_the_address_is_an_error_with_the_address(fake: FakeCa, form: ClientForm) -> None:
    context = Context(
        **{
            name: getattr(fake.context, name)
            for name in ("trust_domain", "bundle", "estate_bundle", "certificate", "key")
        },
        endpoints={"ca": "127.0.0.1:1"},
    )
    with pytest.raises(ServiceUnreachable, match=r"ca at 127\.0\.0\.1:1"):
        await form.run(context, GET, retry=NO_RETRY)


async def test_a_list_is_fetched_page_by_page_as_it_is_used(fake: FakeCa, form: ClientForm) -> None:
    pages = [
        pb.ListCertificatesResponse(certificates=[CERTIFICATE] * 2, next_page_token="p2"),
        pb.ListCertificatesResponse(next_page_token="p3"),
        pb.ListCertificatesResponse(certificates=[CERTIFICATE]),
    ]
    fake.script("ListCertificates", *pages)
    found = await form.run(
        fake.context,
        lambda client: client.certificates.list(profile="server", state=keyreeve.values.CertificateState.VALID),
    )
    assert [one.serial for one in found] == [SERIAL] * 3
    assert [one.request.page_token for one in fake.received] == ["", "p2", "p3"]
    assert {one.request.profile for one in fake.received} == {"profiles/server"}
    assert {one.request.state for one in fake.received} == {pb.CERTIFICATE_STATE_VALID}


async def test_a_batch_gives_a_certificate_or_an_error_for_each_item(fake: FakeCa, form: ClientForm) -> None:
    leaf = fake.root.person("operators/admin/bob").certificate
    der = leaf.public_bytes(Encoding.DER)
    signed = pb.SignedCertificate(name=f"certificates/{SERIAL}", certificate_der=der, authority="authorities/a")
    answer = pb.SignCertificatesResponse(
        outcomes=[
            pb.SignCertificateOutcome(signed=signed),
            pb.SignCertificateOutcome(error=pb.ItemError(reason="KEY_WEAK", message="m", metadata={"why": "roca"})),
        ],
        chains=[pb.AuthorityChain(authority="authorities/a", chain_der=[b"a"])],
    )
    fake.answer("SignCertificates", answer)
    items = [SignItem("server", b"one"), SignItem("server", b"two")]
    good, bad = await form.run(fake.context, lambda client: client.certificates.sign_many(items))
    assert good.chain_der == (b"a",)
    assert good.not_after == leaf.not_valid_after_utc
    assert isinstance(bad, KeyWeak)
    assert bad.metadata == {"why": "roca"}


@pytest.mark.parametrize(("curve", "algorithm"), [("p256", hashes.SHA256()), ("p384", hashes.SHA384())])
async def test_a_renewal_signs_the_nonce_with_the_old_key(
    fake: FakeCa, form: ClientForm, curve: str, algorithm: hashes.HashAlgorithm
) -> None:
    old, new = make_key(keyreeve.KeyType(curve)), make_key()
    nonce = "a nonce"
    spki = new.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    fields = [
        b"keyreeve-renew-1",
        TRUST_DOMAIN.encode(),
        bytes.fromhex(SERIAL),
        hashlib.sha256(spki).digest(),
        nonce.encode(),
    ]
    message = b"".join(len(field).to_bytes(4, "big") + field for field in fields)

    async def check(request: Any, context: Any) -> pb.SignCertificateResponse:
        public = old.public_key()
        assert isinstance(public, ec.EllipticCurvePublicKey)
        public.verify(request.proof.signature, message, ec.ECDSA(algorithm))
        assert request.proof.nonce == nonce
        return SIGNED

    fake.script("RenewCertificate", RenewalProofRequired("sign", metadata={"nonce": nonce}), check)
    await form.run(fake.context, lambda client: client.certificates.renew(SERIAL, make_csr(new), old_key=old))
    first, second = (one.request for one in fake.received)
    assert not first.HasField("proof")
    assert first.request_id == second.request_id


async def test_a_renewal_without_the_old_key_hands_out_the_nonce(fake: FakeCa, form: ClientForm) -> None:
    fake.answer("RenewCertificate", RenewalProofRequired("sign", metadata={"nonce": "n"}))
    with pytest.raises(RenewalProofRequired) as caught:
        await form.run(fake.context, EXAMPLES["RenewCertificate"].call)
    assert caught.value.metadata["nonce"] == "n"


async def test_a_key_type_that_no_authority_can_have_is_refused_before_it_is_sent(
    fake: FakeCa, form: ClientForm
) -> None:
    def work(client: Any) -> Any:
        return client.authorities.create(
            "a",
            hierarchy=keyreeve.values.Hierarchy.ESTATE,
            kind=keyreeve.values.AuthorityKind.ROOT,
            common_name="A",
            key_type=keyreeve.KeyType.RSA2048,
        )

    with pytest.raises(FieldInvalid, match="rsa2048"):
        await form.run(fake.context, work)
    assert fake.received == []


async def test_a_watch_waits_an_outage_out_and_does_not_repeat_itself(fake: FakeCa) -> None:
    other = authority_pb.Bundle(digest=b"other")
    fake.script(
        "WatchBundle",
        [BUNDLE],
        Refusal(grpc.StatusCode.UNAVAILABLE),
        *[ServiceStopping("draining")] * 20,
        [BUNDLE],
        Refusal(grpc.StatusCode.DEADLINE_EXCEEDED),
        [BUNDLE, other],
    )
    async with aio.Client(fake.context, retry=QUICK) as client:
        bundles = client.authorities.watch_bundle("estate")
        assert [(await anext(bundles)).digest, (await anext(bundles)).digest] == [BUNDLE.digest, b"other"]
        await bundles.aclose()


async def test_a_watch_that_never_began_fails_like_any_call(fake: FakeCa, form: ClientForm) -> None:
    fake.answer("WatchBundle", ServiceStopping("draining"))
    with pytest.raises(ServiceStopping):
        await form.run(fake.context, lambda client: client.authorities.watch_bundle("estate"), retry=QUICK)
    assert len(fake.received) == 4


async def test_a_watch_by_a_blocking_client_is_left_at_any_message(fake: FakeCa) -> None:
    fake.answer("WatchBundle", [BUNDLE])

    def work() -> int:
        with keyreeve.Client(fake.context) as client:
            for bundle in client.authorities.watch_bundle("estate"):
                assert bundle.digest == BUNDLE.digest
                break
            return client.ca._channel.open_channels

    assert await asyncio.to_thread(work) == 1


async def test_closing_an_asyncio_client_ends_its_calls_with_an_error_of_ours(fake: FakeCa) -> None:
    fake.hold("GetAuthority")
    client = aio.Client(fake.context)
    call = asyncio.create_task(client.authorities.get("a"))
    await asyncio.to_thread(fake.wait_until_held, 1)
    await client.close()
    with pytest.raises(KeyreeveError, match="closed"):
        await call
    with pytest.raises(RuntimeError, match="closed"):
        await client.authorities.get("a")


async def test_cancelling_a_call_cancels_it(fake: FakeCa) -> None:
    fake.hold("GetAuthority")
    async with aio.Client(fake.context) as client:
        call = asyncio.create_task(client.authorities.get("a"))
        await asyncio.to_thread(fake.wait_until_held, 1)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call


def test_closing_a_blocking_client_ends_its_calls_with_an_error_of_ours(fake: FakeCa) -> None:
    fake.hold("GetAuthority")
    client = keyreeve.Client(fake.context)
    failures: list[Exception] = []

    def call() -> None:
        try:
            client.authorities.get("a")
        except KeyreeveError as failure:
            failures.append(failure)

    thread = threading.Thread(target=call)
    thread.start()
    fake.wait_until_held(1)
    client.close()
    thread.join()
    assert len(failures) == 1
    with pytest.raises(RuntimeError, match="closed"):
        client.authorities.get("a")


async def test_files_that_cannot_be_used_are_named(fake: FakeCa, form: ClientForm) -> None:
    fake.context.key.unlink()
    with pytest.raises(ContextInvalid, match=r"cannot read .*me\.key"):
        await form.run(fake.context, GET)
