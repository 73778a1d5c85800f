"""WatchRevokedCertificates: who is told of which certificates, and from where a stream continues."""

import contextlib
from collections.abc import Iterator

import pytest

from keyreeve import Client
from keyreeve.keys import make_key
from keyreeve.values import CertificateState, CrlReason, RevokedCertificates
from keyreeve_ca.revocation import watching as watching_revocations
from support.running_ca import ADMIN, WORKLOAD, RunningCa, refused, server_csr, unique


@contextlib.contextmanager
def watching(client: Client, position: tuple[int, int] = (0, 0)) -> Iterator[Iterator[RevokedCertificates]]:
    with contextlib.closing(client.certificates.watch_revoked(*position)) as stream:
        yield stream


def sign(client: Client) -> str:
    return client.certificates.sign("server", server_csr(f"{unique('web')}.example.test", key=make_key())).serial


def revoke(ca: RunningCa, *serials: str) -> None:
    for serial in serials:
        ca.client().certificates.revoke(serial, CrlReason.SUPERSEDED)


def serials(update: RevokedCertificates) -> list[str]:
    return [one.serial for one in update.certificates]


def test_an_admin_sees_every_revocation_and_a_workload_its_own_and_those_it_requested(ca: RunningCa) -> None:
    workload = ca.client(WORKLOAD)
    foreign, requested, own = sign(ca.client()), sign(workload), ca.issue(WORKLOAD, make_key()).serial.hex()
    with watching(ca.client()) as admins, watching(workload, (0, 0)) as theirs:
        first = next(admins)
        assert first.certificates == next(theirs).certificates == ()
        for serial in (foreign, requested, own):
            revoke(ca, serial)
            [told] = next(admins).certificates
            assert (told.serial, told.state) == (serial, CertificateState.REVOKED)
            assert told == ca.client().certificates.get(serial)
        seen: list[str] = []
        while len(seen) < 2:
            seen += serials(next(theirs))
        assert seen == [requested, own], "nothing of others"
    with watching(workload, (first.restore_generation, first.seq)) as again:
        assert serials(next(again)) == [requested, own]
    with watching(ca.client(WORKLOAD, worker=1), (first.restore_generation, first.seq)) as elsewhere:
        assert serials(next(elsewhere)) == [requested, own]


def test_a_follower_of_the_past_is_told_page_by_page(ca: RunningCa, monkeypatch: pytest.MonkeyPatch) -> None:
    client = ca.client()
    with watching(client) as stream:
        start = next(stream)
    signed = [sign(client) for _ in range(5)]
    revoke(ca, *signed)
    monkeypatch.setattr(watching_revocations, "PAGE", 2)
    with watching(client, (start.restore_generation, start.seq)) as stream:
        assert [serials(next(stream)) for _ in range(3)] == [signed[:2], signed[2:4], signed[4:]]


def test_a_position_of_another_history_begins_now(ca: RunningCa) -> None:
    revoke(ca, sign(ca.client()))
    with watching(ca.client()) as stream:
        now = next(stream)
    for position in ((now.restore_generation + 1, 1), (now.restore_generation, now.seq + 1_000_000)):
        with watching(ca.client(), position) as stream:
            first = next(stream)
            assert first.certificates == ()
            assert first.seq >= now.seq


def test_a_negative_position_is_refused(ca: RunningCa) -> None:
    assert refused(lambda: next(ca.client().certificates.watch_revoked(0, -1))).reason == "FIELD_INVALID"


def test_a_workload_lists_its_own_certificates(ca: RunningCa) -> None:
    own = ca.issue(WORKLOAD, make_key()).serial.hex()
    sign(ca.client())
    listed = list(ca.client(WORKLOAD).certificates.list(identity=ca.identity(WORKLOAD)))
    assert own in {one.serial for one in listed}
    assert {one.identity for one in listed} == {ca.identity(WORKLOAD)}
    assert not list(ca.client(WORKLOAD).certificates.list(identity=ca.identity(ADMIN)))
