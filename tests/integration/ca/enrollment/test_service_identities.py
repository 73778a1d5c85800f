"""How another service gets its certificate and keeps it: enrolled once, renewed, shared, and enrolled anew after a sleep."""

import asyncio
import shutil
import socket
import stat
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from cryptography import x509

from keyreeve import Context, aio, errors
from keyreeve.enrollment_token import EnrollmentToken
from keyreeve.identity import SpiffeId
from keyreeve.keys import load_certificates, load_key, make_key
from keyreeve.renewal_files import next_path
from keyreeve_chassis.identity import keeping
from keyreeve_chassis.identity.evidence import Evidence, TokenFile
from keyreeve_chassis.identity.files import LiveIdentity
from keyreeve_chassis.identity.keeping import ServiceIdentity
from support.enrolling import OPEN_TO_TESTS, enrolling_ca
from support.following_service import put_token
from support.running_ca import Clock, RunningCa, place_for_ca, unique
from support.waiting import moment, wait_until

pytestmark = pytest.mark.sqlite_first

__all__ = ["enrolling_ca"]
DAY = 86_400


@dataclass
class Instance:
    """One instance of a service, its clock and what it waits for."""

    identity: SpiffeId
    directory: Path
    time: float = field(default_factory=time.time)
    pauses: list[float] = field(default_factory=list)

    @property
    def token(self) -> Path:
        return self.directory.parent / "enrollment-token"

    @property
    def name(self) -> str:
        return self.identity.path[-1]

    def service_identity(self, evidence: Evidence | None = None) -> ServiceIdentity:
        return ServiceIdentity(
            self.identity, self.directory, evidence or TokenFile(self.token), lambda: self.time, self.sleep, lambda: 0.5
        )

    async def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        await moment()

    def leaf(self) -> x509.Certificate:
        return x509.load_der_x509_certificate(load_certificates(self.directory / "certificate.pem")[0])

    def fits(self) -> bool:
        return load_key(self.directory / "key.pem").public_key() == self.leaf().public_key()


@pytest.fixture
def instance(enrolling_ca: RunningCa, tmp_path: Path) -> Instance:
    return Instance(enrolling_ca.spiffe_id(f"services/membership/{unique('one')}"), tmp_path / "identity")


@asynccontextmanager
async def kept(service_identity: ServiceIdentity) -> AsyncIterator[None]:
    task = asyncio.create_task(service_identity.keep())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def enrolled(ca: RunningCa, instance: Instance) -> Context:
    await asyncio.to_thread(put_token, ca, instance.token, instance.name)
    return await instance.service_identity().obtain()


async def test_a_service_enrolls_once_and_needs_no_token_from_then_on(
    enrolling_ca: RunningCa, instance: Instance
) -> None:
    context = await enrolled(enrolling_ca, instance)
    names = instance.leaf().extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == [str(instance.identity)]
    assert names.get_values_for_type(x509.DNSName) == ["membership.svc.example.test"]
    assert instance.fits()
    assert stat.S_IMODE(context.key.stat().st_mode) == 0o600
    assert stat.S_IMODE(instance.directory.stat().st_mode) == 0o700
    assert sorted(path.name for path in instance.directory.iterdir()) == [
        "certificate.pem",
        "context.json",
        "control.pem",
        "estate.pem",
        "key.pem",
        "root.json",
    ]
    assert not instance.token.exists()
    before = instance.leaf()
    again = await instance.service_identity().obtain()
    assert (again, instance.leaf()) == (context, before)
    async with aio.Client(again) as client:
        assert (await client.certificates.get(f"{before.serial_number:032x}")).identity == str(instance.identity)


async def test_the_key_is_on_disk_before_anything_is_asked_and_is_kept_through_failures(
    enrolling_ca: RunningCa, instance: Instance
) -> None:
    await asyncio.to_thread(put_token, enrolling_ca, instance.token, instance.name)
    text = instance.token.read_text()
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        address = f"127.0.0.1:{nobody.getsockname()[1]}"
        nobody.close()
        told = EnrollmentToken.parse(text)
        elsewhere = EnrollmentToken(
            told.token_id, told.secret, told.root_sha256, told.expires_at, told.identity, address
        )
        instance.token.write_text(elsewhere.text())
        waiting = asyncio.create_task(instance.service_identity().obtain())
        key = instance.directory / "enrolling" / "key.pem"
        await wait_until("the key", key.exists)
        made = key.read_bytes()
        assert stat.S_IMODE(key.stat().st_mode) == 0o600
        instance.token.write_text(text)
        await asyncio.wait_for(waiting, 60)
    assert (instance.directory / "key.pem").read_bytes() == made


async def test_a_token_that_is_refused_is_not_tried_again_and_another_one_is(
    enrolling_ca: RunningCa, instance: Instance, tmp_path: Path
) -> None:
    await asyncio.to_thread(put_token, enrolling_ca, instance.token, "another")
    waiting = asyncio.create_task(instance.service_identity().obtain())
    await wait_until("another look", lambda: instance.pauses.count(keeping.EVIDENCE_SECONDS) >= 3)
    assert instance.pauses.count(keeping.FIRST_RETRY_SECONDS) == 1
    assert not (instance.directory / "enrolling").exists()
    instance.token.write_text("krt1_nonsense")
    await wait_until("another look", lambda: keeping.FIRST_RETRY_SECONDS * 2 in instance.pauses)
    await asyncio.to_thread(put_token, enrolling_ca, instance.token, instance.name)
    used = instance.token.read_text()
    await asyncio.wait_for(waiting, 30)
    # A spent one, in the hands of an instance that was set up anew.
    other = Instance(instance.identity, tmp_path / "anew" / "identity")
    other.directory.parent.mkdir()
    other.token.write_text(used)
    waiting = asyncio.create_task(other.service_identity().obtain())
    await wait_until("another look", lambda: other.pauses.count(keeping.EVIDENCE_SECONDS) >= 3)
    assert not waiting.done()
    waiting.cancel()


async def test_it_is_renewed_at_two_thirds_of_its_life_and_every_process_of_the_service_moves_on(
    enrolling_ca: RunningCa, instance: Instance
) -> None:
    context = await enrolled(enrolling_ca, instance)
    onlooker, before = LiveIdentity(context), instance.leaf()
    shown = onlooker.server_identity()
    assert onlooker.server_identity() is shown
    begin, end = before.not_valid_before_utc.timestamp(), before.not_valid_after_utc.timestamp()
    async with aio.Client(context) as client, kept(instance.service_identity()):
        await wait_until("another look", lambda: keeping.LOOK_SECONDS in instance.pauses)
        instance.time = begin + (end - begin) * (2 / 3 + 0.04)
        looked = len(instance.pauses)
        await wait_until("another look", lambda: len(instance.pauses) > looked + 3)
        assert instance.leaf() == before, "chance has put it off by a twentieth of its life"
        instance.time = begin + (end - begin) * (2 / 3 + 0.06)
        await wait_until("the renewed certificate", lambda: instance.leaf() != before)
        await wait_until(
            "the other process", lambda: onlooker.server_identity().chain_pem == context.certificate.read_bytes()
        )
        assert onlooker.server_identity().key_pem == context.key.read_bytes()
        await client.rotate()
        renewed = await client.certificates.get(f"{instance.leaf().serial_number:032x}")
    assert renewed.renews == f"certificates/{before.serial_number:032x}"
    assert instance.fits()


async def test_files_that_do_not_fit_leave_what_is_shown_as_it_was(enrolling_ca: RunningCa, instance: Instance) -> None:
    context = await enrolled(enrolling_ca, instance)
    live, key = LiveIdentity(context), context.key.read_bytes()
    shown, roots = live.server_identity(), live.roots()
    context.key.write_bytes(b"nothing")
    assert live.server_identity() is shown
    context.key.write_bytes(key)
    bundle = context.bundle.read_bytes()
    context.bundle.write_bytes(bundle + bundle)
    assert live.roots() == (*roots, *roots)
    context.bundle.unlink()
    assert live.roots() == (*roots, *roots)
    with pytest.raises(errors.ContextInvalid):
        LiveIdentity(context)


@pytest.mark.parametrize("died_at", range(9))
async def test_a_crash_while_a_new_identity_is_put_in_place_is_finished_at_the_next_start(
    enrolling_ca: RunningCa, instance: Instance, monkeypatch: pytest.MonkeyPatch, died_at: int
) -> None:
    await enrolled(enrolling_ca, instance)
    before = instance.leaf()
    await asyncio.to_thread(put_token, enrolling_ca, instance.token, instance.name)
    new = instance.directory / "enrolling"
    assert await TokenFile(instance.token).enroll(instance.identity, new)
    enrolled_leaf = x509.load_der_x509_certificate(load_certificates(new / "certificate.pem")[0])
    # The leftovers of a renewal that was interrupted, too.
    (instance.directory / "key.pem.next").write_bytes(b"an old key")
    steps = 0

    class Died(Exception):
        pass

    def dying(step):  # type: ignore[no-untyped-def]
        def run(*arguments, **named):  # type: ignore[no-untyped-def]
            nonlocal steps
            steps += 1
            if steps > died_at:
                raise Died
            return step(*arguments, **named)

        return run

    with monkeypatch.context() as patched:
        for name in ("discard_renewal", "write_atomically", "complete_renewal"):
            patched.setattr(keeping, name, dying(getattr(keeping, name)))
        patched.setattr(shutil, "rmtree", dying(shutil.rmtree))
        with suppress(Died):
            await instance.service_identity().obtain()
    assert instance.fits() or load_key(instance.directory / "key.pem").public_key() == enrolled_leaf.public_key()
    context = await instance.service_identity().obtain()
    assert (instance.leaf(), instance.fits()) == (enrolled_leaf, True)
    assert instance.leaf() != before
    assert not new.exists()
    assert not next_path(context.key).exists()
    async with aio.Client(context) as client:
        assert (await client.authorities.bundle("control")).trust_domain == "example.test"


async def test_another_identitys_files_are_not_used(enrolling_ca: RunningCa, instance: Instance) -> None:
    await enrolled(enrolling_ca, instance)
    renamed = Instance(enrolling_ca.spiffe_id(f"services/membership/{unique('two')}"), instance.directory)
    assert instance.service_identity().is_usable()
    assert not renamed.service_identity().is_usable()
    await enrolled(enrolling_ca, renamed)
    assert (instance.service_identity().is_usable(), renamed.service_identity().is_usable()) == (False, True)


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
async def test_after_a_month_asleep_a_new_token_lets_it_back_in(
    request: pytest.FixtureRequest, kind: str, tmp_path: Path
) -> None:
    """The control plane and the service have slept for 31 days: every leaf has expired."""
    instance = Instance(SpiffeId("example.test", ("services", "membership", "one")), tmp_path / "identity")
    with place_for_ca(kind, request, enroll=OPEN_TO_TESTS) as (directory, settings):
        ca = RunningCa(settings, directory, workers=1, clock=Clock(offset=-31 * DAY))
        await asyncio.to_thread(ca.start)
        try:
            await asyncio.to_thread(_enroll_in_the_past, ca, instance)
            await asyncio.to_thread(ca.stop)
            ca.clock.offset = 0
            await asyncio.to_thread(ca.start)
            instance.time = time.time() - 31 * DAY
            assert instance.service_identity().is_usable()
            instance.time = time.time()
            asleep = instance.leaf()
            async with kept(instance.service_identity()):
                await wait_until("another look", lambda: instance.pauses.count(keeping.EVIDENCE_SECONDS) >= 3)
                assert instance.leaf() == asleep
                await asyncio.to_thread(put_token, ca, instance.token, "one")
                await wait_until("the new certificate", lambda: instance.leaf() != asleep)
                async with aio.Client(Context.load(instance.directory / "context.json")) as client:
                    mine = await client.certificates.get(f"{instance.leaf().serial_number:032x}")
                assert mine.identity == str(instance.identity)
                await wait_until("another look", lambda: keeping.LOOK_SECONDS in instance.pauses)
            assert instance.fits()
        finally:
            await asyncio.to_thread(ca.stop)


def _enroll_in_the_past(ca: RunningCa, instance: Instance) -> None:
    """Leave the files that an enrollment at the time of the CA's clock leaves."""
    there = ca.new_context("/".join(instance.identity.path), key=make_key())
    instance.directory.mkdir(mode=0o700)
    places = {name: instance.directory / f"{name}.pem" for name in ("key", "certificate")}
    places |= {"bundle": instance.directory / "control.pem", "estate_bundle": instance.directory / "estate.pem"}
    for name, place in places.items():
        shutil.copy(getattr(there, name), place)
    Context(there.trust_domain, there.endpoints, **places).save(instance.directory / "context.json")
