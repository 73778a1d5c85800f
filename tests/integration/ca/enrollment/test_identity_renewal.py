"""An enrolled program keeps its identity: renewal through lost responses and crashes, and replaced roots."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

import keyreeve
from keyreeve import Context, aio, errors
from keyreeve.enrollment import IdentityRenewal, enroll
from keyreeve.keys import load_certificates, load_key
from support.enrolling import enrolling_ca, new_token
from support.running_ca import RunningCa

__all__ = ["enrolling_ca"]


class Stop(Exception):
    """The test has seen enough."""


@pytest.fixture
def context(enrolling_ca: RunningCa, tmp_path: Path) -> Context:
    return enroll(new_token(enrolling_ca), tmp_path / "me")


@pytest.fixture
def client(context: Context) -> Iterator[keyreeve.Client]:
    with keyreeve.Client(context) as opened:
        yield opened


def leaf_of(context: Context) -> x509.Certificate:
    return x509.load_der_x509_certificate(load_certificates(context.certificate)[0])


def fits(context: Context) -> bool:
    return load_key(context.key).public_key() == leaf_of(context).public_key()


def stopping(_seconds: float) -> Any:
    raise Stop


def test_an_identity_is_renewed_two_thirds_through_its_life_and_clients_go_on(
    context: Context, client: keyreeve.Client
) -> None:
    before = leaf_of(context)
    time = [before.not_valid_before_utc.timestamp()]
    own = IdentityRenewal(context, client, now=lambda: time[0], sleep=stopping, jitter=lambda: 0.0)
    with pytest.raises(Stop):
        own.keep()
    assert leaf_of(context) == before
    time[0] = own.due()
    with pytest.raises(Stop):
        own.keep()
    after = leaf_of(context)
    assert after.serial_number != before.serial_number
    assert fits(context)
    assert client.rotate() in {True, False}
    renewed = client.certificates.get(f"{after.serial_number:032x}")
    assert renewed.renews == f"certificates/{before.serial_number:032x}"
    assert sorted(path.name for path in context.key.parent.iterdir() if path.name.endswith(".next")) == []


def test_a_renewal_whose_answer_was_lost_gets_the_same_certificate(context: Context, client: keyreeve.Client) -> None:
    own = IdentityRenewal(context, client)
    old_key, old_certificate = context.key.read_bytes(), context.certificate.read_bytes()
    own.renew()
    first = leaf_of(context)
    # As if the process had died before anything was moved: the new key waits, and nobody has seen the answer.
    context.key.with_name("key.pem.next").write_bytes(context.key.read_bytes())
    context.key.write_bytes(old_key)
    context.certificate.write_bytes(old_certificate)
    client.rotate()
    own.renew()
    assert leaf_of(context) == first
    assert fits(context)


@pytest.mark.parametrize("died", ["before the key", "before the certificate"])
def test_a_crash_between_the_files_is_finished_at_the_next_start(
    context: Context, client: keyreeve.Client, died: str
) -> None:
    own = IdentityRenewal(context, client, sleep=stopping)
    old_key, old_certificate = context.key.read_bytes(), context.certificate.read_bytes()
    own.renew()
    renewed = leaf_of(context)
    context.certificate.replace(context.certificate.with_name("certificate.pem.next"))
    context.certificate.write_bytes(old_certificate)
    if died == "before the key":
        context.key.replace(context.key.with_name("key.pem.next"))
        context.key.write_bytes(old_key)
    with pytest.raises(Stop):
        own.keep()
    assert leaf_of(context) == renewed
    assert fits(context)


def test_bundles_are_written_when_they_have_changed(context: Context, client: keyreeve.Client) -> None:
    own = IdentityRenewal(context, client)
    assert own.refresh_bundles() is False
    context.estate_bundle.unlink()
    assert own.refresh_bundles() is True
    assert load_certificates(context.estate_bundle) == list(client.authorities.bundle("estate").roots_der)


def test_a_failure_is_logged_and_the_next_attempt_follows(context: Context, client: keyreeve.Client) -> None:
    told: list[errors.KeyreeveError] = []
    rounds = iter([None, None])

    def sleep(_seconds: float) -> None:
        try:
            next(rounds)
        except StopIteration:
            raise Stop from None

    client.close()
    with keyreeve.Client(context, timeout=0.000001) as hasty, pytest.raises(Stop):
        IdentityRenewal(context, hasty, sleep=sleep).keep(told.append)
    assert len(told) == 3


async def test_a_program_of_asyncio_keeps_its_identity_too(context: Context) -> None:
    before = leaf_of(context)

    async def stop(_seconds: float) -> None:
        raise Stop

    async with aio.Client(context) as client:
        own = aio.IdentityRenewal(context, client, now=lambda: before.not_valid_after_utc.timestamp() - 60, sleep=stop)
        with pytest.raises(Stop):
            await asyncio.wait_for(own.keep(), 20)
    assert leaf_of(context) != before
    assert fits(context)
