"""The audit log of a whole CA: one record for each call, in a log that verifies."""

import threading
import time
import uuid

import grpc
import pytest

from keyreeve import SignItem, errors
from keyreeve.audit.log import ChainState, Checkpoint
from keyreeve.audit.record import Record
from keyreeve.audit.verifying import Verifier
from keyreeve.audit.witness import accept
from keyreeve.ca.v1 import authority_service_pb2 as authority_pb
from keyreeve.ca.v1 import authority_service_pb2_grpc as authority_stubs
from keyreeve.ca.v1 import certificate_service_pb2 as certificate_pb
from keyreeve.ca.v1 import certificate_service_pb2_grpc as stubs
from keyreeve.identity import service_dns_name
from keyreeve.request_ids import new_request_id
from keyreeve.status import error_from_rpc
from keyreeve_ca import local_admin
from support.gateway_sessions import Gateway
from support.running_ca import AUDITOR, MEMBER, MEMBERSHIP, OPERATOR, WORKLOAD, RunningCa, server_csr, unique
from support.waiting import wait_for

SIGN = "/keyreeve.ca.v1.CertificateService/SignCertificate"


def records(ca: RunningCa, **wanted: str) -> list[Record]:
    found = [one.record for one in ca.client(AUDITOR).audit.list(**wanted)]
    return [r for r in found if not r.method.endswith("/ListAuditRecords")]  # looking leaves a record too


def record_of(ca: RunningCa, **wanted: str) -> Record:
    """The one record that fits, once the next checkpoint has it."""
    [record] = wait_for(f"a record of {wanted}", lambda: records(ca, **wanted) or None)
    return record


def settle(ca: RunningCa) -> None:
    """Wait until everything so far has its place in the log."""
    marked = uuid.uuid4().hex
    with pytest.raises(errors.CertificateNotFound):
        ca.client(AUDITOR).certificates.get(marked)
    record_of(ca, resource=f"certificates/{marked}")


def test_a_signature_leaves_one_record_with_what_it_was_about_and_what_came_of_it(ca):
    identifier = new_request_id()
    signed = ca.client(OPERATOR).certificates.sign("server", server_csr("web.example.test"), request_id=identifier)
    record = record_of(ca, id=identifier)
    assert (record.method, record.code, record.reason) == (SIGN, "OK", "")
    assert record.caller == ca.identity(OPERATOR)
    assert record.targets == (("item.profile", "profiles/server"),)
    assert record.results == (("certificate", signed.serial),)
    assert record.tls == "TLSv1.3"
    assert record.peer.startswith("ipv4:127.0.0.1")
    assert int(record.credential, 16) > 0


def test_a_batch_leaves_one_record_with_the_outcome_of_each_item(ca):
    identifier = new_request_id()
    items = [SignItem("server", server_csr("web.example.test")), SignItem("server", server_csr("x.svc.example.test"))]
    good, bad = ca.client(OPERATOR).certificates.sign_many(items, identifier)
    record = record_of(ca, id=identifier)
    assert record.code == "OK"
    assert record.results == (("certificate", good.serial), ("items[1]", bad.reason))


def test_a_repeat_leaves_its_own_record_and_so_does_a_reused_id(ca):
    identifier = new_request_id()
    client = ca.client(OPERATOR).certificates
    csr = server_csr("web.example.test")
    first = client.sign("server", csr, request_id=identifier)
    assert client.sign("server", csr, request_id=identifier).serial == first.serial
    with pytest.raises(errors.RequestIdReused):
        client.sign("server", server_csr("other.example.test"), request_id=identifier)
    found = wait_for("three records", lambda: f if len(f := records(ca, id=identifier)) >= 3 else None)
    assert [(r.code, r.reason) for r in found] == [("OK", ""), ("OK", ""), ("FAILED_PRECONDITION", "REQUEST_ID_REUSED")]
    assert found[1].results == (("certificate", first.serial), ("answer", "repeated"))


def test_reads_refusals_and_failures_leave_one_record_each(ca):
    serial = uuid.uuid4().hex
    with pytest.raises(errors.CertificateNotFound):
        ca.client(AUDITOR).certificates.get(serial)
    missing = record_of(ca, resource=f"certificates/{serial}")
    assert (missing.code, missing.reason) == ("NOT_FOUND", "CERTIFICATE_NOT_FOUND")
    identifier = unique("not-allowed")
    with pytest.raises(grpc.RpcError):
        stubs.CertificateServiceStub(ca.channel(MEMBER)).ListCertificates(
            certificate_pb.ListCertificatesRequest(), timeout=5, metadata=(("x-request-id", identifier),)
        )
    denied = record_of(ca, id=identifier)
    assert (denied.code, denied.reason, denied.caller) == ("PERMISSION_DENIED", "ACCESS_DENIED", ca.identity(MEMBER))
    assert denied.targets == (), "nothing of a request is read before its caller may call"
    identifier = new_request_id()
    with pytest.raises(errors.KeyreeveError) as refused:
        ca.client(OPERATOR).certificates.sign("server", b"no request", request_id=identifier)
    record = record_of(ca, id=identifier)
    assert (record.code, record.reason) == (refused.value.code, refused.value.reason)


def test_a_slow_change_is_recorded_in_its_own_transaction_and_its_refusal_by_the_worker(ca):
    name, identifier = unique("audited"), new_request_id()
    document = ca.client().profiles.get("server").document
    ca.client().profiles.create(name, document, request_id=identifier)
    record = record_of(ca, id=identifier)
    assert record.targets == (("profile_id", name),)
    assert record.results == (("name", f"profiles/{name}"),)
    assert record.tls == "TLSv1.3"
    with pytest.raises(errors.ProfileExists):
        ca.client().profiles.create(name, document)
    [refused] = wait_for("the refusal", lambda: records(ca, reason="PROFILE_EXISTS", resource=name) or None)
    assert refused.targets == (("profile_id", name),)


def test_a_call_that_its_caller_gave_up_leaves_one_record(ca):
    call = authority_stubs.AuthorityServiceStub(ca.channel(WORKLOAD)).WatchBundle(
        authority_pb.WatchBundleRequest(name="bundles/estate"), metadata=(("x-request-id", unique("watched-bundle")),)
    )
    next(call)
    call.cancel()
    identifier = unique("given-up")
    stub = stubs.CertificateServiceStub(ca.channel(OPERATOR))
    with pytest.raises(grpc.RpcError):
        stub.ListCertificates(
            certificate_pb.ListCertificatesRequest(), timeout=0.0001, metadata=(("x-request-id", identifier),)
        )
    settle(ca)
    assert len(records(ca, id=identifier)) <= 1  # the call may never have arrived


def test_a_stream_is_recorded_once_when_it_is_opened(ca):
    identifier = unique("stream")
    call = authority_stubs.AuthorityServiceStub(ca.channel(WORKLOAD)).WatchBundle(
        authority_pb.WatchBundleRequest(name="bundles/estate"), metadata=(("x-request-id", identifier),)
    )
    next(call)
    record = record_of(ca, id=identifier)
    assert (record.code, record.targets) == ("OK", (("name", "bundles/estate"),))
    call.cancel()
    settle(ca)
    assert len(records(ca, id=identifier)) == 1


def test_unknown_methods_of_knservice_callers_are_recorded_and_health_is_not(ca):
    channel = ca.channel(MEMBER)
    method = f"/keyreeve.ca.v1.CertificateService/{unique('Forget').replace('-', '')}"
    channel.unary_unary("/grpc.health.v1.Health/Check")(b"", timeout=5)
    with pytest.raises(grpc.RpcError) as unknown:
        channel.unary_unary(method)(b"", timeout=5)
    assert unknown.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert record_of(ca, method=method).reason == "METHOD_UNKNOWN"
    assert records(ca, method="/grpc.health.v1.Health/Check") == []


def test_refusals_of_peers_without_an_identity_are_counted(ca):
    settle(ca)
    context = ca.context(OPERATOR)
    name = service_dns_name("ca", context.trust_domain)
    credentials = grpc.ssl_channel_credentials(context.bundle.read_bytes())
    address = f"127.0.0.1:{ca.servings[0].port}"
    with grpc.secure_channel(address, credentials, options=[("grpc.ssl_target_name_override", name)]) as channel:
        for _ in range(40):
            with pytest.raises(grpc.RpcError) as refused:
                stubs.CertificateServiceStub(channel).ListCertificates(
                    certificate_pb.ListCertificatesRequest(), timeout=10
                )
    if refused.value.code() is grpc.StatusCode.UNAVAILABLE:
        return  # without a certificate the handshake fails, so there is no call

    def counted() -> list[Record] | None:
        found = records(ca, reason=error_from_rpc(refused.value, "ca").reason)
        return found if sum(r.calls for r in found) >= 40 else None

    found = wait_for("40 counted refusals", counted)
    assert sum(r.calls for r in found) == 40
    assert len(found) < 40
    assert {(r.peer, r.caller) for r in found} == {("ipv4:127.0.0.1", "")}


def test_the_log_verifies_here_and_there_and_fits_what_was_witnessed(ca):
    auditor = ca.client(AUDITOR).audit
    settle(ca)
    before = accept(None, auditor.checkpoint())
    ca.client(OPERATOR).certificates.sign("server", server_csr("web.example.test"))
    settle(ca)
    now = accept(before, auditor.checkpoint(consistent_with=before.seen.k))
    assert now.seen.k > before.seen.k
    verifier = Verifier(now.spki, witnessed=[before.seen, now.seen])
    for segment in auditor.segments():
        verifier.add(segment)
    verifier.finish()
    assert verifier.problems == []
    report = auditor.verify(witnessed=[before.seen, now.seen])
    assert report.problems == ()
    assert report.records >= verifier.records > 0
    assert ca.client(MEMBERSHIP).audit.verify(after_checkpoint=before.seen.k).links < report.links


def test_the_chains_are_closed_at_an_orderly_stop_and_the_next_life_has_its_own(own_ca):
    own_ca.client(OPERATOR).certificates.sign("server", server_csr("web.example.test"))
    own_ca.stop()
    own_ca.start()
    settle(own_ca)
    states: dict[bytes, ChainState] = {}
    for segment in own_ca.client(AUDITOR).audit.segments():
        states |= {head.chain: head.state for head in Checkpoint.decode(segment.body).heads}
    assert ChainState.CLOSED in states.values()
    assert ChainState.OPEN in states.values()
    assert own_ca.client(AUDITOR).audit.verify().problems == ()


def test_concurrent_calls_each_leave_one_record(ca):
    mark = unique("many")
    stub = stubs.CertificateServiceStub(ca.channel(OPERATOR))

    def sign(number: int) -> None:
        request = certificate_pb.SignCertificateRequest(
            item=certificate_pb.SignCertificateItem(profile="profiles/server", csr=server_csr(f"{mark}.example.test")),
            request_id=new_request_id(),
        )
        stub.SignCertificate(request, timeout=10, metadata=(("x-request-id", f"{mark}-{number}"),))

    threads = [threading.Thread(target=lambda n=n: [sign(n * 20 + i) for i in range(20)]) for n in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    settle(ca)
    found = [r.call_id for r in records(ca, method="SignCertificate") if r.call_id.startswith(mark)]
    assert sorted(found) == sorted(f"{mark}-{n}" for n in range(100))


def test_only_admins_and_auditors_read_it_and_only_a_gateway_with_a_ticket_appends_to_it(ca):
    for who in (OPERATOR, MEMBER, WORKLOAD):
        with pytest.raises(errors.AccessDenied):
            list(ca.client(who).audit.list())
        with pytest.raises(errors.AccessDenied):
            ca.client(who).audit.append_verb_record("array join", ca.identity(OPERATOR))
    gateway, identifier = Gateway(ca), new_request_id()
    gateway = gateway.on_behalf(gateway.open(OPERATOR))
    for _ in range(2):
        gateway.audit.append_verb_record(
            "array join",
            ca.identity(OPERATOR),
            peer="203.0.113.9",
            targets=[("array", "arrays/a")],
            request_id=identifier,
        )
    found = wait_for("two records", lambda: f if len(f := records(ca, id=identifier)) >= 2 else None)
    assert [r.subject for r in found] == [ca.identity(OPERATOR)] * 2
    assert found[0].targets == (("verb", "array join"), ("array", "arrays/a"))
    assert [r.results for r in found] == [(), (("answer", "repeated"),)]
    with pytest.raises(errors.AuditRecordInvalid):
        gateway.audit.append_verb_record("array\njoin", ca.identity(OPERATOR))


def test_filters_and_times_narrow_a_list(ca):
    settle(ca)
    from datetime import UTC, datetime, timedelta

    now = datetime.now(UTC)
    auditor = ca.client(AUDITOR).audit
    assert list(auditor.list(since=now + timedelta(days=1))) == []
    assert list(auditor.list(until=now - timedelta(days=1))) == []
    newest = auditor.page(newest_first=True, page_size=3).records
    assert len(newest) == 3
    assert (newest[0].position, newest[0].place) > (newest[1].position, newest[1].place)
    assert all(r.code == "OK" for r in records(ca, code="OK"))
    assert time.time() - newest[0].called_at.timestamp() < 60


def test_recovery_leaves_a_record_of_what_it_did(own_ca):
    own_ca.run(local_admin.recover(own_ca.settings.coordinator_socket))
    record = record_of(own_ca, method="keyreeve/recover")
    assert (record.caller, record.peer, record.code) == ("", "unix:local", "OK")
