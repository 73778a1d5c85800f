"""RevokeCertificate through the whole service: access, effect on the holder, and the ledger."""

import threading
import time
import uuid
from typing import cast

import grpc
import pytest
from cryptography import x509

from keyreeve import errors
from keyreeve.ca.v1 import authority_service_pb2 as authority_pb
from keyreeve.ca.v1 import certificate_service_pb2 as pb
from keyreeve.ca.v1 import crl_reason_pb2
from keyreeve.keys import make_csr, make_key
from keyreeve.values import CertificateState, CrlReason, Name
from support.running_ca import (
    ADMIN,
    AUDITOR,
    MEMBER,
    MEMBERSHIP,
    OPERATOR,
    WORKLOAD,
    RunningCa,
    refused,
    server_csr,
    unique,
)

SUPERSEDED = CrlReason.SUPERSEDED
WATCH = "/keyreeve.ca.v1.AuthorityService/WatchBundle"
SIGN = "/keyreeve.ca.v1.CertificateService/SignCertificate"


def serial_of_new(ca: RunningCa, path: str) -> str:
    return ca.issue(path, make_key()).serial.hex()


def test_a_revoked_certificate_says_when_why_and_by_whom_and_stays_so(ca: RunningCa) -> None:
    client = ca.client()
    serial = client.certificates.sign("server", server_csr(f"{unique('web')}.example.test", key=make_key())).serial
    revoked = client.certificates.revoke(serial, CrlReason.KEY_COMPROMISE)
    assert (revoked.state, revoked.revocation_reason) == (CertificateState.REVOKED, CrlReason.KEY_COMPROMISE)
    assert revoked.revoker == ca.identity(ADMIN)
    assert revoked.revoked_at is not None
    assert abs(revoked.revoked_at.timestamp() - time.time()) < 60
    assert ca.client(OPERATOR).certificates.revoke(serial, SUPERSEDED) == revoked
    assert client.certificates.get(serial) == revoked


def test_a_repeat_of_the_same_request_answers_the_same_and_another_payload_is_refused(ca: RunningCa) -> None:
    client = ca.client()
    serial = client.certificates.sign("server", server_csr(f"{unique('web')}.example.test")).serial
    request_id = str(uuid.uuid4())
    first = client.certificates.revoke(serial, SUPERSEDED, request_id=request_id)
    assert client.certificates.revoke(serial, SUPERSEDED, request_id=request_id) == first
    again = refused(lambda: client.certificates.revoke(serial, CrlReason.UNSPECIFIED, request_id=request_id))
    assert isinstance(again, errors.RequestIdReused)


def test_lists_distinguish_revoked_valid_and_expired_certificates(ca: RunningCa) -> None:
    client, name = ca.client(), f"{unique('web')}.example.test"
    kept, gone = (client.certificates.sign("server", server_csr(name)).serial for _ in range(2))
    client.certificates.revoke(gone, SUPERSEDED)

    def listed(state: CertificateState | None) -> list[str]:
        return [one.serial for one in client.certificates.list(identity=name, state=state)]

    assert listed(CertificateState.REVOKED) == [gone]
    assert listed(CertificateState.VALID) == [kept]
    assert listed(CertificateState.EXPIRED) == []
    assert listed(None) == sorted([kept, gone])
    assert gone in {one.serial for one in client.certificates.list(state=CertificateState.REVOKED)}


def test_a_revoked_certificate_cannot_be_renewed_nor_can_one_whose_renewal_was_under_way(ca: RunningCa) -> None:
    client, old = ca.client(), make_key()
    csr = make_csr(old, [Name.dns(f"{unique('web')}.example.test")])
    serial = client.certificates.sign("server", csr).serial
    client.certificates.revoke(serial, SUPERSEDED)
    told = refused(lambda: client.certificates.renew(serial, make_csr(make_key()), old_key=old))
    assert isinstance(told, errors.CertificateRevoked)
    # A renewal that was read and signed before the revocation finds its predecessor's place taken at the commit.
    taken = ca.read(lambda tx: tx.successor(bytes.fromhex(serial)))
    assert taken is None


MATRIX = [
    # Who asked for it, or whose it is; and who may revoke it.
    (ADMIN, {ADMIN}),
    (OPERATOR, {ADMIN, OPERATOR}),
    (AUDITOR, {ADMIN, AUDITOR}),
    (MEMBERSHIP, {ADMIN, MEMBERSHIP}),
    (MEMBER, {ADMIN, OPERATOR, MEMBER}),
    (WORKLOAD, {ADMIN, OPERATOR, WORKLOAD}),
]


@pytest.mark.parametrize(("holder", "allowed"), MATRIX, ids=[row[0] for row in MATRIX])
def test_who_may_revoke_a_certificate_of_the_control_hierarchy(ca: RunningCa, holder: str, allowed: set[str]) -> None:
    for caller in (ADMIN, OPERATOR, AUDITOR, MEMBERSHIP, MEMBER, WORKLOAD):
        serial, certificates = serial_of_new(ca, holder), ca.client(caller).certificates
        if caller in allowed:
            assert certificates.revoke(serial, SUPERSEDED).revoker == ca.identity(caller)
            continue
        told = refused(lambda: certificates.revoke(serial, SUPERSEDED))  # noqa: B023  # called at once
        hidden = caller in (MEMBER, WORKLOAD)
        assert isinstance(told, errors.CertificateNotFound if hidden else errors.RevocationNotAllowed), caller


def test_a_requester_may_revoke_its_certificate_and_another_workload_does_not_learn_that_it_exists(
    ca: RunningCa,
) -> None:
    serial = ca.client(WORKLOAD).certificates.sign("server", server_csr(f"{unique('web')}.example.test")).serial
    other = ca.client("workloads/other/api").certificates
    unknown = refused(lambda: other.revoke("4" + "0" * 31, SUPERSEDED))
    told = refused(lambda: other.revoke(serial, SUPERSEDED))
    assert (type(told), told.message) == (type(unknown), unknown.message.replace("4" + "0" * 31, serial))
    assert ca.client(WORKLOAD).certificates.revoke(serial, SUPERSEDED).state is CertificateState.REVOKED


def test_without_a_reason_it_is_unspecified_and_reasons_of_authorities_are_refused(ca: RunningCa) -> None:
    stub = ca.channel().unary_unary(
        "/keyreeve.ca.v1.CertificateService/RevokeCertificate",
        pb.RevokeCertificateRequest.SerializeToString,
        pb.Certificate.FromString,
    )
    serial = ca.client().certificates.sign("server", server_csr(f"{unique('web')}.example.test")).serial
    asked = pb.RevokeCertificateRequest(name=f"certificates/{serial}", request_id=str(uuid.uuid4()))
    for reason in (crl_reason_pb2.CRL_REASON_CA_COMPROMISE, 6, 99):  # 6: certificateHold of RFC 5280
        asked.reason = cast("crl_reason_pb2.CrlReason", reason)
        with pytest.raises(grpc.RpcError, match="reason") as told:
            stub(asked, timeout=20)
        assert told.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    asked.ClearField("reason")
    revoked = stub(asked, timeout=20)
    assert revoked.state == pb.CERTIFICATE_STATE_REVOKED
    assert revoked.revocation_reason == crl_reason_pb2.CRL_REASON_UNSPECIFIED
    assert ca.client().certificates.get(serial).revocation_reason is CrlReason.UNSPECIFIED


@pytest.mark.parametrize("worker", [0, 1])
def test_a_revoked_caller_is_refused_on_its_open_channel_and_its_stream_is_cut(ca: RunningCa, worker: int) -> None:
    path = f"members/{unique('web')}.example.test"
    context = ca.new_context(path, worker=worker)
    channel = ca.channel(context=context)
    leaf = x509.load_pem_x509_certificate(context.certificate.read_bytes())
    stream = channel.unary_stream(
        WATCH, authority_pb.WatchBundleRequest.SerializeToString, authority_pb.Bundle.FromString
    )
    running = stream(authority_pb.WatchBundleRequest(name="bundles/control"))
    assert next(running).name == "bundles/control"
    cut: list[tuple[grpc.RpcError, float]] = []

    def read() -> None:
        try:
            next(running)
        except grpc.RpcError as error:
            cut.append((error, time.monotonic()))

    reading = threading.Thread(target=read)
    reading.start()
    ca.client().certificates.revoke(f"{leaf.serial_number:032x}", SUPERSEDED)
    began = time.monotonic()
    reading.join(20)
    [(error, when)] = cut
    assert error.code() is grpc.StatusCode.UNAUTHENTICATED
    assert "revoked" in error.details()
    assert when - began < (1.0 if worker == 0 else 5.0)
    get = channel.unary_unary(
        "/keyreeve.ca.v1.AuthorityService/GetBundle",
        authority_pb.GetBundleRequest.SerializeToString,
        authority_pb.Bundle.FromString,
    )
    with pytest.raises(grpc.RpcError, match="revoked"):
        get(authority_pb.GetBundleRequest(name="bundles/control"), timeout=20)
