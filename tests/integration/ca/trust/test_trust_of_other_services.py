"""What another service knows of its callers: who is refused, how soon, and what happens when the CA cannot be heard."""

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509

from keyreeve.identity import Role
from keyreeve.values import AuthorityKind, CrlReason, Hierarchy
from keyreeve_chassis.settings.serving import ServingSettings
from support.echo_service import ADMIN_ECHO
from support.enrolling import OPEN_TO_TESTS, enrolling_ca
from support.following_service import ask, following_service, put_token, until, watch
from support.running import refused
from support.running_ca import RunningCa, running, unique

pytestmark = pytest.mark.sqlite_first

__all__ = ["enrolling_ca"]


@pytest.fixture(params=["sqlite", "postgresql"])
def breakable_ca(request: pytest.FixtureRequest) -> Iterator[RunningCa]:
    """A CA with a listener for enrollees for one test, always on the same port."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    listen = ServingSettings(health_port=None, port=port)
    with running(request.param, request, workers=1, enroll=OPEN_TO_TESTS, listen=listen) as ca:
        yield ca


async def test_a_revoked_caller_is_refused_on_open_channels_and_in_streams(
    enrolling_ca: RunningCa, tmp_path: Path
) -> None:
    took = []
    async with following_service(enrolling_ca, tmp_path) as service:
        for _ in range(5):
            member = await asyncio.to_thread(enrolling_ca.new_context, f"members/{unique('web')}.example.test")
            async with service.channel(member) as channel:
                assert await ask(channel) == "OK"
                stream = watch(channel)
                await stream.read()
                serial = _serial(member.certificate)
                await asyncio.to_thread(enrolling_ca.client().certificates.revoke, serial, CrlReason.SUPERSEDED)
                took.append(await until("PEER_CERTIFICATE_REVOKED", lambda: ask(channel)))
                assert await _reason(stream) == "PEER_CERTIFICATE_REVOKED"
    assert max(took) <= 5
    assert sorted(took)[2] <= 1, took


async def test_an_operator_is_accepted_by_the_record_alone(enrolling_ca: RunningCa, tmp_path: Path) -> None:
    name = unique("olaf")
    await asyncio.to_thread(enrolling_ca.client().operators.get, "ann")  # another admin who has had a certificate
    async with following_service(enrolling_ca, tmp_path) as service:
        admin = await asyncio.to_thread(enrolling_ca.new_context, f"operators/admin/{name}")
        async with service.channel(admin) as channel:
            await until("OK", lambda: ask(channel))
            stream = watch(channel)
            await stream.read()
            change = enrolling_ca.operators.change_role
            await asyncio.to_thread(enrolling_ca.write, lambda tx: change(tx, name, Role.AUDITOR, "tests"))
            await until("PEER_OPERATOR_UNKNOWN", lambda: ask(channel))
            assert await _reason(stream) == "PEER_OPERATOR_UNKNOWN"
        auditor = await asyncio.to_thread(enrolling_ca.new_context, f"operators/auditor/{name}")
        async with service.channel(auditor) as channel:
            await until("OK", lambda: ask(channel))
            await asyncio.to_thread(enrolling_ca.client().operators.remove, name)
            await until("PEER_OPERATOR_UNKNOWN", lambda: ask(channel))


@pytest.mark.faults
async def test_leaves_count_while_their_issuing_ca_does_and_a_service_that_loses_its_own_is_let_back_in_by_a_token(
    breakable_ca: RunningCa, tmp_path: Path
) -> None:
    ca = breakable_ca
    async with following_service(ca, tmp_path, instance="one") as service:
        before = await asyncio.to_thread(ca.new_context, "members/before.example.test")
        authorities = ca.client().authorities
        for step in (
            lambda: authorities.create(
                "control-root-2",
                hierarchy=Hierarchy.CONTROL,
                kind=AuthorityKind.ROOT,
                common_name="control root 2",
            ),
            lambda: authorities.activate("control-root-2"),
            lambda: authorities.create(
                "control-issuing-2",
                hierarchy=Hierarchy.CONTROL,
                kind=AuthorityKind.INTERMEDIATE,
                common_name="control issuing 2",
                issuer="control-root-2",
            ),
            lambda: authorities.activate("control-issuing-2"),
        ):
            await asyncio.to_thread(step)
        snapshot = ca.coordinator.issuance.snapshot
        await until("yes", lambda: _answer("control-issuing-2" in snapshot().issuing))
        after = await asyncio.to_thread(ca.new_context, "members/after.example.test")
        # It shows a certificate under a root that this service has heard of since it was enrolled.
        await until("OK", lambda: service.ask(after))
        async with service.channel(before) as channel:
            assert await ask(channel) == "OK"
            stream = watch(channel)
            await stream.read()
            successor = await asyncio.to_thread(ca.new_client, "operators/admin/ann")
            await asyncio.to_thread(successor.authorities.revoke, "control-issuing-1", CrlReason.CA_COMPROMISE)
            await until("PEER_ISSUER_UNKNOWN", lambda: ask(channel))
            assert await _reason(stream) == "PEER_ISSUER_UNKNOWN"
        # The service's own certificate was of that CA: it hears nothing any more, until it is enrolled again.
        await until("REVOCATIONS_STALE", lambda: service.ask(after), 10)
        await asyncio.to_thread(put_token, ca, tmp_path / "enrollment-token", "one")
        await until("OK", lambda: service.ask(after), 30)
        assert not (tmp_path / "enrollment-token").exists()


async def test_without_the_ca_reads_go_on_and_a_restarted_service_remembers(
    breakable_ca: RunningCa, tmp_path: Path
) -> None:
    ca, name = breakable_ca, "ben"
    gone = await asyncio.to_thread(ca.new_context, f"operators/admin/{name}")
    admin = await asyncio.to_thread(ca.new_context, "operators/admin/ann")
    async with following_service(ca, tmp_path, instance="one") as service:
        assert await service.ask(gone) == "OK"
        await asyncio.to_thread(ca.client().operators.remove, name)
        await until("PEER_OPERATOR_UNKNOWN", lambda: service.ask(gone))
        await asyncio.to_thread(ca.stop)
        assert await service.ask(admin) == "OK"
        await until("REVOCATIONS_STALE", lambda: service.ask(admin), 8)
        assert await service.ask(admin, ADMIN_ECHO) == "OK"
    async with following_service(ca, tmp_path, instance="one", enroll=False) as service:
        assert await service.ask(gone) == "PEER_OPERATOR_UNKNOWN"
        assert await service.ask(admin, ADMIN_ECHO) == "OK"
        assert await service.ask(admin) == "REVOCATIONS_STALE"
        await asyncio.to_thread(ca.start)
        await until("OK", lambda: service.ask(admin), 20)
        assert await service.ask(gone) == "PEER_OPERATOR_UNKNOWN"


async def _answer(yes: bool) -> str:
    return "yes" if yes else "no"


def _serial(certificate: Path) -> str:
    return f"{x509.load_pem_x509_certificates(certificate.read_bytes())[0].serial_number:032x}"


async def _reason(stream: object) -> str:
    return str((await asyncio.wait_for(refused(stream), 5)).reason)
