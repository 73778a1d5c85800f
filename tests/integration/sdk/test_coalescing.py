"""Concurrent calls of `sign` are coalesced, with the results of single calls."""

import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import grpc
import pytest
from cryptography.hazmat.primitives.serialization import Encoding

import keyreeve
from keyreeve import Client, aio
from keyreeve._async import coalescing as async_coalescing
from keyreeve._blocking import coalescing as blocking_coalescing
from keyreeve.ca.v1 import certificate_service_pb2 as pb
from keyreeve.errors import (
    DeadlinePassed,
    FieldInvalid,
    KeyreeveError,
    KeyWeak,
    ServiceStopping,
    ServiceUnreachable,
    TooManyInFlight,
    Violation,
)
from keyreeve.retry import NO_RETRY, RetryPolicy
from support.fake_ca_server import FakeCa, Refusal
from support.sdk_calls import SIGNED
from support.sdk_forms import AsyncForm, ClientForm
from support.waiting import wait_for

QUICK = RetryPolicy(attempts=4, initial=0.001, maximum=0.001)
ALONE, TOGETHER = "SignCertificate", "SignCertificates"


class Signing:
    """What the fake does: a certificate for every request, named after it, but an error for those that begin so."""

    def __init__(self, fake: FakeCa) -> None:
        self.fake = fake
        self.der = fake.root.service("ca").certificate.public_bytes(Encoding.DER)
        self.together = 0
        self.most_together = 0
        fake.answer(ALONE, self.alone)
        fake.answer(TOGETHER, self.batch)

    async def alone(self, request: Any, context: Any) -> Any:
        if request.item.csr.startswith(b"weak"):
            bad = KeyWeak("too short", violations=[Violation("item.csr", "512 bits")], metadata={"bits": "512"})
            return await self.fake._give(bad, request, context)
        answer = pb.SignCertificateResponse()
        answer.CopyFrom(SIGNED)
        answer.certificate.name = name_for(request.item.csr)
        return answer

    async def batch(self, request: Any, context: Any) -> Any:
        self.together += 1
        self.most_together = max(self.most_together, self.together)
        await asyncio.sleep(0)
        self.together -= 1
        chain = pb.AuthorityChain(authority=SIGNED.certificate.authority, chain_der=[b"issuing"])
        return pb.SignCertificatesResponse(outcomes=[self._outcome(item) for item in request.items], chains=[chain])

    def _outcome(self, item: Any) -> pb.SignCertificateOutcome:
        if item.csr.startswith(b"weak"):
            return pb.SignCertificateOutcome(error=pb.ItemError(reason="KEY_WEAK", message="not as said alone"))
        signed = pb.SignedCertificate(
            name=name_for(item.csr),
            authority=SIGNED.certificate.authority,
            certificate_der=self.der,
            renew_time=SIGNED.renew_time,
        )
        return pb.SignCertificateOutcome(signed=signed)

    @property
    def batches(self) -> list[Any]:
        return [one.request for one in self.fake.received if one.method.endswith(TOGETHER)]

    @property
    def singles(self) -> list[Any]:
        return [one.request for one in self.fake.received if one.method.endswith(ALONE)]


@pytest.fixture
def signing(fake: FakeCa) -> Signing:
    return Signing(fake)


@pytest.fixture
def one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only one call at once, so that a test knows what gathers behind it."""
    for module in (async_coalescing, blocking_coalescing):
        monkeypatch.setattr(module, "MAX_IN_FLIGHT", 1)


def name_for(csr: bytes) -> str:
    return f"certificates/{csr.hex()[:64]}"


def sign(csr: bytes, profile: str = "server", **more: Any) -> Callable[[Any], Any]:
    return lambda client: client.certificates.sign(profile, csr, **more)


def at_once(calls: Sequence[Callable[[Any], Any]]) -> Callable[[Any], Any]:
    """Make calls at the same time, of tasks or of threads; their answers and errors in order."""

    def run(client: Any) -> Any:
        if isinstance(client, aio.Client):
            return asyncio.gather(*(call(client) for call in calls), return_exceptions=True)

        def one(call: Callable[[Any], Any]) -> Any:
            try:
                return call(client)
            except Exception as failure:  # noqa: BLE001 - what it is, the test asks
                return failure

        with ThreadPoolExecutor(len(calls)) as pool:
            return list(pool.map(one, calls))

    return run


def behind_the_first(fake: FakeCa, calls: Sequence[Callable[[Any], Any]]) -> Callable[[Any], Any]:
    """Make calls while the client's only turn is taken by one that is held, and let go when all wait."""

    def waiting(client: Any) -> int:
        return sum(map(len, client.certificates._coalescer._queues.values()))

    async def run_async(client: Any) -> Any:
        first = asyncio.create_task(sign(b"first")(client))
        await asyncio.to_thread(fake.wait_until_held, 1)
        others = asyncio.gather(*(call(client) for call in calls), return_exceptions=True)
        await asyncio.to_thread(wait_for, "all wait", lambda: waiting(client) == len(calls))
        fake.release()
        await first
        return await others

    def run_blocking(client: Any) -> Any:
        with ThreadPoolExecutor(1) as pool:
            first = pool.submit(sign(b"first"), client)
            fake.wait_until_held(1)
            releasing = threading.Thread(
                target=lambda: (wait_for("all wait", lambda: waiting(client) == len(calls)), fake.release())
            )
            releasing.start()
            answers = at_once(calls)(client)
            releasing.join()
            first.result()
            return answers

    fake.hold(ALONE)
    return lambda client: run_async(client) if isinstance(client, aio.Client) else run_blocking(client)


async def test_a_call_without_others_in_flight_is_sent_by_itself(signing: Signing, form: ClientForm) -> None:
    for number in range(3):
        signed = await form.run(signing.fake.context, sign(b"%d" % number))
        assert signed.name == name_for(b"%d" % number)
    assert (len(signing.singles), len(signing.batches)) == (3, 0)


async def test_each_of_many_callers_gets_its_serving_certificate(signing: Signing, form: ClientForm) -> None:
    csrs = [b"csr %d" % number for number in range(250)]
    answers = await form.run(signing.fake.context, at_once([sign(csr) for csr in csrs]))
    assert [answer.name for answer in answers] == [name_for(csr) for csr in csrs]
    assert signing.most_together <= async_coalescing.MAX_IN_FLIGHT
    sizes = [len(batch.items) for batch in signing.batches]
    assert max(sizes) <= 100
    assert sum(sizes) + len(signing.singles) == 250
    assert len({batch.request_id for batch in signing.batches}) == len(sizes)


@pytest.mark.usefixtures("one_at_a_time")
async def test_what_gathers_while_the_service_is_busy_goes_when_it_has_answered(
    signing: Signing, form: ClientForm
) -> None:
    calls = [sign(b"csr %d" % number) for number in range(120)]
    answers = await form.run(signing.fake.context, behind_the_first(signing.fake, calls))
    assert len({answer.name for answer in answers}) == 120
    assert [len(batch.items) for batch in signing.batches] == [100, 20]


async def test_calls_of_tasks_that_begin_together_all_ride_together(signing: Signing) -> None:
    await AsyncForm().run(signing.fake.context, at_once([sign(b"csr %d" % number) for number in range(40)]))
    assert ([len(batch.items) for batch in signing.batches], signing.singles) == ([40], [])


async def test_without_coalescing_every_call_goes_out_by_itself(signing: Signing, form: ClientForm) -> None:
    calls = [sign(b"csr %d" % number) for number in range(20)]
    await form.run(signing.fake.context, at_once(calls), coalesce=False)
    assert (len(signing.singles), len(signing.batches)) == (20, 0)


async def test_a_call_with_a_request_id_of_its_own_goes_out_by_itself(signing: Signing, form: ClientForm) -> None:
    ids = [f"00000000-0000-7000-8000-{number:012d}" for number in range(20)]
    await form.run(signing.fake.context, at_once([sign(b"csr", request_id=one) for one in ids]))
    assert sorted(single.request_id for single in signing.singles) == ids
    assert signing.batches == []


@pytest.mark.usefixtures("one_at_a_time")
async def test_only_what_one_authority_signs_rides_together(signing: Signing, form: ClientForm) -> None:
    kinds = [("server", None), ("client", None), ("server", "estate-2"), ("server", "authorities/estate-2")]
    calls = [sign(b"%d" % number, kinds[number % 4][0], authority=kinds[number % 4][1]) for number in range(16)]
    await form.run(signing.fake.context, behind_the_first(signing.fake, calls))
    found = sorted((len(one.items), {(item.profile, item.authority) for item in one.items}) for one in signing.batches)
    assert [size for size, _ in found] == [4, 4, 8]
    assert all(len(kind) == 1 for _, kind in found)


@pytest.mark.usefixtures("one_at_a_time")
async def test_batches_stay_below_what_a_service_reads(signing: Signing, form: ClientForm) -> None:
    calls = [sign(b"%02d" % number + bytes(60_000)) for number in range(40)] + [sign(b"huge" + bytes(70_000))]
    # The huge one waits for nobody.
    await form.run(signing.fake.context, behind_the_first(signing.fake, calls[:40]))
    await form.run(signing.fake.context, at_once(calls[40:]))
    assert max(batch.ByteSize() for batch in signing.batches) <= 2**20 + 2**10
    assert [len(batch.items) for batch in signing.batches] == [17, 17, 6]
    assert len(signing.singles) == 2


@pytest.mark.usefixtures("one_at_a_time")
async def test_a_refusal_is_that_of_a_single_call_and_concerns_one_caller(signing: Signing, form: ClientForm) -> None:
    calls = [sign(b"weak %d" % number if number == 3 else b"csr %d" % number) for number in range(8)]
    answers = await form.run(signing.fake.context, behind_the_first(signing.fake, calls))
    with pytest.raises(KeyWeak) as alone:
        await form.run(signing.fake.context, sign(b"weak"), coalesce=False)
    refused = answers.pop(3)
    assert same(refused, alone.value)
    assert all(isinstance(answer, keyreeve.SignedCertificate) for answer in answers)
    [batch] = signing.batches
    assert batch.request_id not in {single.request_id for single in signing.singles}


@pytest.mark.usefixtures("one_at_a_time")
@pytest.mark.parametrize(
    "refusal",
    [
        FieldInvalid("items[1].profile is wrong", violations=[Violation("items[1].profile", "no")]),
        Refusal(grpc.StatusCode.RESOURCE_EXHAUSTED, "received message larger than max"),
        Refusal(grpc.StatusCode.UNIMPLEMENTED, "no batches here"),
    ],
    ids=["invalid", "too large", "unknown"],
)
async def test_after_a_refusal_of_the_whole_batch_each_item_is_sent_by_itself(
    signing: Signing, form: ClientForm, refusal: Any
) -> None:
    signing.fake.answer(TOGETHER, refusal)
    calls = [sign(b"weak" if number == 1 else b"csr %d" % number) for number in range(4)]
    answers = await form.run(signing.fake.context, behind_the_first(signing.fake, calls))
    assert isinstance(answers.pop(1), KeyWeak)
    assert [answer.name for answer in answers] == [name_for(b"csr %d" % number) for number in (0, 2, 3)]


@pytest.mark.usefixtures("one_at_a_time")
@pytest.mark.parametrize(
    ("refusal", "expected"),
    [(Refusal(grpc.StatusCode.UNAVAILABLE), ServiceUnreachable), (ServiceStopping("draining"), ServiceStopping)],
)
async def test_what_may_have_been_signed_is_not_asked_for_again(
    signing: Signing, form: ClientForm, refusal: Any, expected: type[KeyreeveError]
) -> None:
    signing.fake.answer(TOGETHER, refusal)
    calls = [sign(b"csr %d" % number) for number in range(5)]
    answers = await form.run(signing.fake.context, behind_the_first(signing.fake, calls), retry=NO_RETRY)
    assert {type(answer) for answer in answers} == {expected}
    assert len({id(answer) for answer in answers}) == 5, "a raised error belongs to one caller"
    assert len(signing.singles) == 1, "the first"


@pytest.mark.usefixtures("one_at_a_time")
async def test_a_batch_is_repeated_with_its_request_id(signing: Signing, form: ClientForm) -> None:
    full = TooManyInFlight("full", retry_after=timedelta(milliseconds=1))
    signing.fake.script(TOGETHER, ServiceStopping("draining"), Refusal(grpc.StatusCode.UNAVAILABLE), full)
    calls = [sign(b"csr %d" % number) for number in range(5)]
    answers = await form.run(signing.fake.context, behind_the_first(signing.fake, calls), retry=QUICK)
    assert [answer.name for answer in answers] == [name_for(b"csr %d" % number) for number in range(5)]
    assert len(signing.batches) == 4
    assert len({batch.request_id for batch in signing.batches}) == 1
    assert len({batch.SerializeToString(deterministic=True) for batch in signing.batches}) == 1


@pytest.mark.usefixtures("one_at_a_time")
async def test_a_caller_whose_time_is_over_leaves_the_others_alone(signing: Signing, form: ClientForm) -> None:
    held = threading.Event()
    answer = signing.batch

    async def slow(request: Any, context: Any) -> Any:
        await asyncio.to_thread(held.wait, 60)
        return await answer(request, context)

    signing.fake.answer(TOGETHER, slow)

    def impatient(client: Any) -> Any:
        async def run() -> Any:
            try:
                return await sign(b"impatient", timeout=0.5)(client)
            finally:
                held.set()

        if isinstance(client, aio.Client):
            return run()
        try:
            return sign(b"impatient", timeout=0.5)(client)
        finally:
            held.set()

    calls = [sign(b"patient", timeout=50.0), impatient]
    patient, given_up = await form.run(signing.fake.context, behind_the_first(signing.fake, calls))
    assert patient.name == name_for(b"patient")
    assert type(given_up) is DeadlinePassed
    assert given_up.metadata["service"].startswith("ca at ")
    [batch] = [one for one in signing.fake.received if one.method.endswith(TOGETHER)]
    assert 40 < batch.seconds < 51, "the longest of the callers' times"


@pytest.mark.usefixtures("one_at_a_time")
async def test_who_gives_up_before_the_batch_begins_is_not_asked_for(signing: Signing, form: ClientForm) -> None:
    signing.fake.hold(ALONE)

    def work(client: Any) -> Any:
        async def run() -> Any:
            first = asyncio.create_task(sign(b"first")(client))
            await asyncio.to_thread(signing.fake.wait_until_held, 1)
            with pytest.raises(DeadlinePassed):
                await sign(b"gone", timeout=0.01)(client)
            signing.fake.release()
            return await first

        if isinstance(client, aio.Client):
            return run()
        with ThreadPoolExecutor(1) as pool:
            first = pool.submit(sign(b"first"), client)
            signing.fake.wait_until_held(1)
            with pytest.raises(DeadlinePassed):
                sign(b"gone", timeout=0.01)(client)
            signing.fake.release()
            return first.result()

    await form.run(signing.fake.context, work)
    assert await form.run(signing.fake.context, sign(b"next"))
    assert signing.batches == []


@pytest.mark.usefixtures("one_at_a_time")
async def test_a_cancelled_caller_leaves_the_others_alone(signing: Signing) -> None:
    async with aio.Client(signing.fake.context) as client:
        signing.fake.hold(TOGETHER)
        calls = [asyncio.create_task(sign(b"csr %d" % number)(client)) for number in range(6)]
        await asyncio.to_thread(signing.fake.wait_until_held, 1)
        calls[0].cancel()
        calls[4].cancel()
        answers = asyncio.gather(*calls, return_exceptions=True)
        await asyncio.sleep(0)
        signing.fake.release()
        kinds = [type(answer) for answer in await answers]
    assert kinds.count(asyncio.CancelledError) == 2
    assert [kinds[0], kinds[4]] == [asyncio.CancelledError] * 2
    assert kinds.count(keyreeve.SignedCertificate) == 4


@pytest.mark.usefixtures("one_at_a_time")
async def test_closing_the_client_fails_what_waits(signing: Signing, form: ClientForm) -> None:
    signing.fake.hold(ALONE)

    def closing(client: Any) -> Any:
        def waiting() -> int:
            return sum(map(len, client.certificates._coalescer._queues.values()))

        async def run() -> Any:
            calls = asyncio.gather(*(sign(b"%d" % n)(client) for n in range(5)), return_exceptions=True)
            await asyncio.to_thread(signing.fake.wait_until_received, 1)
            await client.close()
            return await calls

        if isinstance(client, aio.Client):
            signing.fake.hold(TOGETHER)
            return run()

        def close() -> None:
            wait_for("the others wait", lambda: waiting() == 4)
            client.close()

        with ThreadPoolExecutor(1) as pool:
            closed = pool.submit(close)
            answers = at_once([sign(b"%d" % n) for n in range(5)])(client)
            closed.result()
        return answers

    answers = await form.run(signing.fake.context, closing, retry=NO_RETRY)
    assert all(isinstance(answer, KeyreeveError | RuntimeError) for answer in answers), answers
    assert all("close" in str(answer) for answer in answers), answers


def test_a_loop_that_ends_fails_the_waiting_calls(signing: Signing) -> None:
    signing.fake.hold(ALONE)
    signing.fake.hold(TOGETHER)

    async def leave() -> list[Any]:
        client = aio.Client(signing.fake.context)
        calls = [asyncio.create_task(sign(b"%d" % number)(client)) for number in range(5)]
        await asyncio.to_thread(signing.fake.wait_until_received, 1)
        return calls

    left = asyncio.run(leave())
    assert all(call.done() for call in left)


def test_without_threads_to_spare_every_call_is_sent_by_itself(
    signing: Signing, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none_left(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(blocking_coalescing.runtime, "spawn", none_left)
    with Client(signing.fake.context) as client:
        answers = at_once([sign(b"csr %d" % number) for number in range(12)])(client)
    assert [answer.name for answer in answers] == [name_for(b"csr %d" % number) for number in range(12)]
    assert len(signing.singles) == 12


def same(one: KeyreeveError, other: KeyreeveError) -> bool:
    return (type(one), one.message, one.metadata, one.violations) == (
        type(other),
        other.message,
        other.metadata,
        other.violations,
    )
