"""Halted issuance through the whole service, on both databases: what stops and what continues."""

import asyncio

import pytest
from cryptography import x509

from keyreeve import errors
from keyreeve.keys import load_certificates, make_csr, make_key
from keyreeve.request_ids import new_request_id
from keyreeve.values import AuthorityKind, AuthorityState, Hierarchy, IssuanceStatus
from keyreeve_ca import local_admin
from keyreeve_ca.issuance.serving_certificate import ServingCertificate
from keyreeve_ca.settings import IssuanceSettings
from support.running_ca import ADMIN, AUDITOR, MEMBER, MEMBERSHIP, OPERATOR, RunningCa, refused, running, server_csr
from support.waiting import wait_for

pytestmark = pytest.mark.sqlite_first

BEA = "operators/admin/bea"


async def _never(_version: int) -> None:
    await asyncio.Event().wait()


def test_a_halt_stops_signing_renewal_and_new_authorities_until_issuance_is_resumed(own_ca: RunningCa) -> None:
    ann, other, olaf = own_ca.client(ADMIN), own_ca.client(ADMIN, worker=1), own_ca.client(OPERATOR)
    mine = load_certificates(ann.context.certificate)
    answered = new_request_id()
    csr = server_csr("web.example.test")
    first = ann.certificates.sign("server", csr, request_id=answered)

    state = olaf.issuance.halt("nobody knows what worker 1 signs")
    assert state.status is IssuanceStatus.HALTED
    assert state.halted_by == own_ca.identity(OPERATOR)

    for client in (ann, other):
        told = refused(lambda client=client: client.certificates.sign("server", csr))
        assert isinstance(told, errors.IssuanceHalted)
        assert "worker 1" not in told.message
    serial = f"{x509.load_der_x509_certificate(mine[0]).serial_number:032x}"
    renewal = make_csr(make_key())
    assert isinstance(refused(lambda: ann.certificates.renew(serial, renewal)), errors.IssuanceHalted)
    create = {"hierarchy": Hierarchy.ESTATE, "kind": AuthorityKind.ROOT, "common_name": "Another root"}
    assert isinstance(refused(lambda: ann.authorities.create("another-root", **create)), errors.IssuanceHalted)

    assert ann.certificates.sign("server", csr, request_id=answered) == first, "what was answered is answered again"
    assert ann.certificates.get(first.serial).serial == first.serial
    assert ann.authorities.bundle("control").roots_der

    resumed = ann.issuance.resume("it was the load test")
    assert not resumed.halted
    for client in (ann, other):
        assert client.certificates.sign("server", csr).serial != first.serial
    assert ann.authorities.create("another-root", **create).state is AuthorityState.PENDING


def test_the_ca_renews_its_serving_certificate_and_the_local_socket_answers_while_issuance_is_halted(
    own_ca: RunningCa,
) -> None:
    ann = own_ca.client(ADMIN)
    ann.issuance.halt("a key may be out")
    issuance = own_ca.coordinator.issuance
    wait_for("the coordinator has heard of the halt", lambda: issuance.snapshot().halted_since)
    own = ServingCertificate(issuance, issuance.snapshot, _never, "testing", own_ca.clock.now)
    own_ca.run(own.renew())
    assert own.current is not None
    answer = own_ca.run(local_admin.first_operator(own_ca.settings.coordinator_socket, "root", make_csr(make_key())))
    assert answer["role"] == "operators/admin"
    assert ann.issuance.state().halted


def test_resuming_needs_two_persons_if_the_settings_say_so(request: pytest.FixtureRequest) -> None:
    with running("sqlite", request, workers=1, issuance=IssuanceSettings(resume_needs_two=True)) as ca:
        ann, bea = ca.client(ADMIN), ca.client(BEA)
        again = ca.new_client(ADMIN)
        assert ann.issuance.halt("a key may be out").resume_needs_two
        assert ann.issuance.resume("it was not").approved_by == ca.identity(ADMIN)
        assert isinstance(refused(lambda: again.issuance.resume("really not")), errors.SecondPersonRequired)
        assert isinstance(refused(lambda: ann.certificates.sign("server", server_csr("a.test"))), errors.IssuanceHalted)
        assert not bea.issuance.resume("I agree").halted
        wait_for("signing goes on", lambda: ann.certificates.sign("server", server_csr("a.test")))


def test_who_may_halt_and_resume_and_who_may_read_the_state(own_ca: RunningCa) -> None:
    for path in (AUDITOR, MEMBER, MEMBERSHIP):
        assert isinstance(refused(lambda path=path: own_ca.client(path).issuance.halt("no")), errors.AccessDenied)
    assert isinstance(refused(lambda: own_ca.client(OPERATOR).issuance.resume("no")), errors.AccessDenied)
    assert isinstance(refused(own_ca.client(MEMBER).issuance.state), errors.AccessDenied)
    for path in (AUDITOR, MEMBERSHIP):
        assert own_ca.client(path).issuance.state().status is IssuanceStatus.ISSUING
    assert isinstance(refused(lambda: own_ca.client(ADMIN).issuance.resume("no")), errors.IssuanceNotHalted)
