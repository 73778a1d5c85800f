"""A client keeps working while its certificate, key and bundle are replaced, over real mutual TLS."""

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor

import pytest

import keyreeve
from keyreeve import aio
from keyreeve._async.calls import Caller
from keyreeve._async.rotating import RotatingChannel
from keyreeve._blocking.calls import Caller as BlockingCaller
from keyreeve._blocking.rotating import RotatingChannel as BlockingChannel
from keyreeve.ca.v1 import authority_service_pb2 as pb
from keyreeve.errors import ContextInvalid, PeerCertificateExpired, ServiceUnreachable
from keyreeve.retry import RetryPolicy
from support.fake_ca_server import FakeCa
from support.peer_certificates import TestCa
from support.sdk_calls import AUTHORITY
from support.sdk_forms import ClientForm

CHANGES = 50
CALLS = 1000
BUNDLE = pb.Bundle(name="bundles/estate", trust_domain="example.test")


def own_records(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    """What the SDK has logged; a CA of other tests in the same process may have something to say too."""
    return [record for record in caplog.records if record.name == "keyreeve" or record.name.startswith("keyreeve.")]


@pytest.mark.faults
async def test_a_thousand_asyncio_calls_in_flight_survive_fifty_changes(fake: FakeCa) -> None:
    fake.answer("GetBundle", BUNDLE)
    fake.answer("GetAuthority", AUTHORITY)
    fake.hold("GetBundle")
    async with aio.Client(fake.context, timeout=60) as client:
        held: list[asyncio.Task[object]] = []
        busy = True

        async def keep_calling() -> int:
            calls = 0
            while busy:
                await client.authorities.get("root")
                calls += 1
            return calls

        callers = [asyncio.create_task(keep_calling()) for _ in range(4)]
        for change in range(CHANGES):
            held += [asyncio.create_task(client.authorities.bundle("estate")) for _ in range(CALLS // CHANGES)]
            await asyncio.to_thread(fake.wait_until_held, CALLS // CHANGES * (change + 1))
            fake.change_everything()
            assert await client.rotate()
            fake.catch_up()
        busy = False
        assert sum(await asyncio.gather(*callers)) > 0
        assert client.ca._channel.open_channels == CHANGES + 1
        fake.release()
        answers = await asyncio.gather(*held)
        assert len(answers) == CALLS
        assert client.ca._channel.open_channels == 1
    assert len({one.serial for one in fake.received if one.method.endswith("GetBundle")}) == CHANGES
    assert len([one for one in fake.received if one.method.endswith("GetBundle")]) == CALLS, "none was retried"


@pytest.mark.faults
def test_a_thousand_blocking_calls_in_flight_survive_fifty_changes(fake: FakeCa) -> None:
    fake.answer("GetBundle", BUNDLE)
    fake.answer("GetAuthority", AUTHORITY)
    fake.hold("GetBundle")
    with keyreeve.Client(fake.context, timeout=60) as client, ThreadPoolExecutor(CALLS + 4) as threads:
        busy = True

        def keep_calling() -> int:
            calls = 0
            while busy:
                client.authorities.get("root")
                calls += 1
            return calls

        callers = [threads.submit(keep_calling) for _ in range(4)]
        held = []
        try:
            for change in range(CHANGES):
                held += [threads.submit(client.authorities.bundle, "estate") for _ in range(CALLS // CHANGES)]
                fake.wait_until_held(CALLS // CHANGES * (change + 1))
                fake.change_everything()
                assert client.rotate()
                fake.catch_up()
        finally:
            busy = False
            fake.release()
        assert sum(caller.result() for caller in callers) > 0
        assert len([call.result() for call in held]) == CALLS
        assert client.ca._channel.open_channels == 1
    assert len({one.serial for one in fake.received if one.method.endswith("GetBundle")}) == CHANGES
    assert len([one for one in fake.received if one.method.endswith("GetBundle")]) == CALLS, "none was retried"


async def test_a_change_is_noticed_by_the_calls_themselves(fake: FakeCa) -> None:
    fake.answer("GetBundle", BUNDLE)
    channel = RotatingChannel(fake.context, "ca", check_interval=0)
    caller = Caller(channel, timeout=30, policy=RetryPolicy())
    request = pb.GetBundleRequest(name="bundles/estate")

    async def call() -> int:
        await caller.unary("/keyreeve.ca.v1.AuthorityService/GetBundle", request, pb.Bundle)
        return fake.received[-1].serial

    try:
        await call()
        new = fake.change_everything()
        async with asyncio.timeout(30):
            while await call() != new:
                pass
    finally:
        await channel.close()


def test_a_change_is_noticed_by_blocking_calls_in_several_threads(fake: FakeCa) -> None:
    fake.answer("GetBundle", BUNDLE)
    channel = BlockingChannel(fake.context, "ca", check_interval=0)
    caller = BlockingCaller(channel, timeout=30, policy=RetryPolicy())
    request = pb.GetBundleRequest(name="bundles/estate")

    def call_until(serial: int) -> int:
        calls = 0
        while serial not in {one.serial for one in fake.received[-20:]}:
            caller.unary("/keyreeve.ca.v1.AuthorityService/GetBundle", request, pb.Bundle)
            calls += 1
        return calls

    with ThreadPoolExecutor(4) as threads:
        try:
            for _ in range(5):
                new = fake.change_everything()
                done = [threads.submit(call_until, new) for _ in range(4)]
                assert all(one.result(timeout=30) >= 0 for one in done)
                fake.catch_up()
        finally:
            channel.close()
    assert channel.open_channels == 0


async def test_a_watch_goes_on_over_a_change(fake: FakeCa) -> None:
    first, second = pb.Bundle(digest=b"1"), pb.Bundle(digest=b"2")
    fake.answer("WatchBundle", [first, second])
    fake.script("WatchBundle", [first], [first])
    async with aio.Client(fake.context) as client:
        bundles = client.authorities.watch_bundle("control")
        assert (await anext(bundles)).digest == b"1"
        fake.change_everything()
        assert await client.rotate()
        assert (await anext(bundles)).digest == b"2"
        await bundles.aclose()
        assert client.ca._channel.open_channels == 1
    assert len({one.serial for one in fake.received}) == 2


async def test_a_key_without_its_certificate_is_never_used(fake: FakeCa, form: ClientForm) -> None:
    fake.answer("GetBundle", BUNDLE)

    def work(client: keyreeve.Client) -> object:
        fake.context.key.write_bytes(fake.root.person("operators/admin/ann").key_pem)
        return client.rotate()

    with pytest.raises(ContextInvalid, match="is not for the key"):
        await form.run(fake.context, work)


async def test_files_that_do_not_connect_leave_the_channel_as_it_was(fake: FakeCa) -> None:
    fake.answer("GetBundle", BUNDLE)
    async with aio.Client(fake.context) as client:
        await client.authorities.bundle("estate")
        stranger = TestCa.root("stranger")
        fake.hand_out(stranger.person("operators/admin/ann"), [stranger])
        with pytest.raises(ServiceUnreachable):
            await client.rotate()
        assert client.ca._channel.open_channels == 1
        await client.authorities.bundle("estate")
    assert len({one.serial for one in fake.received}) == 1


async def test_files_that_do_not_connect_are_logged_once_and_tried_again_later(
    fake: FakeCa, caplog: pytest.LogCaptureFixture
) -> None:
    fake.answer("GetBundle", BUNDLE)
    now = 0.0
    channel = RotatingChannel(fake.context, "ca", clock=lambda: now, check_interval=0, retry_interval=5)
    used = await channel.take()
    stranger = TestCa.root("stranger")
    fake.hand_out(stranger.person("operators/admin/ann"), [stranger])
    with caplog.at_level(logging.WARNING, "keyreeve"):
        assert not await channel.refresh(used)
        assert not await channel.refresh(used)
        assert len(own_records(caplog)) == 1
        now = 6.5
        assert not await channel.refresh(used)
        assert len(own_records(caplog)) == 2
        fake.change_everything()
        assert await channel.refresh(used)
    await channel.give_back(used)
    assert channel.open_channels == 1
    await channel.close()


async def test_files_that_were_only_touched_keep_the_channel(fake: FakeCa, form: ClientForm) -> None:
    def work(client: keyreeve.Client) -> object:
        return client.rotate()

    assert await form.run(fake.context, work), "the first rotation opens the channel"

    fake.answer("GetBundle", BUNDLE)
    async with aio.Client(fake.context) as client:
        await client.authorities.bundle("estate")
        fake.context.certificate.write_bytes(fake.context.certificate.read_bytes())
        assert not await client.rotate()


async def test_a_call_that_is_refused_for_an_old_certificate_moves_to_the_new_one(fake: FakeCa) -> None:
    fake.answer("GetBundle", BUNDLE)
    async with aio.Client(fake.context) as client:
        await client.authorities.bundle("estate")
        new = fake.change_everything()
        fake.script("GetBundle", PeerCertificateExpired("the certificate has expired"))
        await client.authorities.bundle("estate")
    assert [one.serial == new for one in fake.received] == [False, False, True]


async def test_a_service_with_another_services_name_is_not_believed(fake: FakeCa, form: ClientForm) -> None:
    fake.identity = fake.root.service("membership")
    with pytest.raises(ServiceUnreachable):
        await form.run(fake.context, lambda client: client.authorities.bundle("estate"), retry=RetryPolicy(attempts=1))
    assert fake.received == []


async def test_a_service_of_another_hierarchy_is_not_believed(fake: FakeCa, form: ClientForm) -> None:
    fake.identity = TestCa.root("estate").service("ca")
    with pytest.raises(ServiceUnreachable):
        await form.run(fake.context, lambda client: client.authorities.bundle("estate"), retry=RetryPolicy(attempts=1))
    assert fake.received == []
