"""`keyreeve cert revoke`, `cert revoke-many`, `crl` and `operation`: requests and output."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509

from keyreeve.ca.v1 import authority_service_pb2 as authority_pb
from keyreeve.ca.v1 import certificate_service_pb2 as pb
from keyreeve.ca.v1 import crl_reason_pb2
from keyreeve.errors import RevocationListNotFound
from keyreeve.operations.v1 import operation_service_pb2 as operation_pb
from keyreeve_ca.revocation.crl import ListEntry, build_revocation_list
from support.certificate_plans import NOW, authority
from support.command_line import Run
from support.fake_ca_server import FakeCa
from support.sdk_calls import BEGIN, CERTIFICATE, OPERATION, SERIAL, stamp

REVOKED = pb.Certificate()
REVOKED.CopyFrom(CERTIFICATE)
REVOKED.state = pb.CERTIFICATE_STATE_REVOKED
REVOKED.revoke_time.CopyFrom(stamp(BEGIN))
REVOKED.revocation_reason = crl_reason_pb2.CRL_REASON_KEY_COMPROMISE
REVOKED.revoker = "spiffe://example.test/operators/admin/ann"


def a_list() -> pb.RevocationList:
    made = authority()
    der = build_revocation_list(
        made.issuer,
        made.signer,
        3,
        number=7,
        this_update=NOW,
        next_update=NOW + 86_400,
        entries=[ListEntry(bytes.fromhex(SERIAL), NOW, 1), ListEntry(bytes.fromhex(SERIAL[:-1] + "2"), NOW, 0)],
    )
    return pb.RevocationList(
        name="authorities/estate-2/revocationLists/3",
        number=7,
        this_update_time=stamp(datetime.fromtimestamp(NOW, UTC)),
        next_update_time=stamp(datetime.fromtimestamp(NOW + 86_400, UTC)),
        entries=2,
        crl_der=der,
    )


def test_revoke_takes_a_serial_number_as_openssl_prints_it(run: Run, fake: FakeCa) -> None:
    fake.answer("RevokeCertificate", REVOKED)
    printed = ":".join(SERIAL[n : n + 2] for n in range(0, 32, 2)).upper()
    done = run("cert", "revoke", printed, "--reason", "key_compromise", "--output", "json")
    assert done.code == 0, done.err
    assert done.document["revocation_reason"] == "key_compromise"
    request = fake.received[0].request
    assert (request.name, request.reason) == (f"certificates/{SERIAL}", crl_reason_pb2.CRL_REASON_KEY_COMPROMISE)
    assert "revoked" in run("cert", "revoke", SERIAL, "--reason", "key_compromise").out


def test_revoke_needs_a_reason(run: Run, fake: FakeCa) -> None:
    assert run("cert", "revoke", SERIAL).code == 2
    assert fake.received == []


def test_a_list_is_shown_with_every_entry(run: Run, fake: FakeCa) -> None:
    fake.answer("GetRevocationList", a_list())
    done = run("crl", "show", "estate-2", "--shard", "3", "--output", "json")
    assert done.code == 0, done.err
    assert [(one["serial"], one["reason"]) for one in done.document["revoked"]] == [
        (SERIAL, "key_compromise"),
        (SERIAL[:-1] + "2", "unspecified"),
    ]
    assert fake.received[0].request.name == "authorities/estate-2/revocationLists/3"
    assert SERIAL in run("crl", "show", "estate-2", "--shard", "3").out


def test_a_list_is_fetched_in_der(run: Run, fake: FakeCa, tmp_path: Path) -> None:
    fake.answer("GetRevocationList", a_list())
    done = run("crl", "fetch", "estate-2", "--out", tmp_path / "list.crl")
    assert done.code == 0, done.err
    assert len(x509.load_der_x509_crl((tmp_path / "list.crl").read_bytes())) == 2
    assert run("crl", "fetch", "estate-2", "--out", tmp_path / "missing" / "list.crl").code == 2


def test_the_lists_of_all_cas_are_fetched_or_the_file_stays_as_it_was(run: Run, fake: FakeCa, tmp_path: Path) -> None:
    def authority(name: str, state: int, days: int) -> authority_pb.Authority:
        made = authority_pb.Authority(name=f"authorities/{name}")
        made.kind = authority_pb.AUTHORITY_KIND_INTERMEDIATE
        made.hierarchy = authority_pb.HIERARCHY_ESTATE
        made.key_type = authority_pb.AUTHORITY_KEY_TYPE_P256
        made.state = state  # type: ignore[assignment]
        made.not_after_time.FromDatetime(datetime.now(UTC) + timedelta(days=days))
        return made

    two = [
        authority("active", authority_pb.AUTHORITY_STATE_ACTIVE, 9),
        authority("revoked", authority_pb.AUTHORITY_STATE_REVOKED, 9),
    ]
    without = [
        authority("expired", authority_pb.AUTHORITY_STATE_RETIRING, -9),
        authority("pending", authority_pb.AUTHORITY_STATE_PENDING, 9),
        authority("retired", authority_pb.AUTHORITY_STATE_RETIRED, 9),
    ]
    out = tmp_path / "crls.pem"
    fake.answer("ListAuthorities", authority_pb.ListAuthoritiesResponse(authorities=[*two, *without]))
    fake.answer("GetRevocationList", a_list())
    assert run("crl", "fetch", "--all", "--out", out).code == 0
    good = out.read_bytes()
    assert good.count(b"BEGIN X509 CRL") == 2
    fake.script("GetRevocationList", a_list(), RevocationListNotFound("there is none"))
    missing = run("crl", "fetch", "--all", "--out", out)
    assert missing.code == 1
    fake.answer("ListAuthorities", authority_pb.ListAuthoritiesResponse(authorities=without))
    assert run("crl", "fetch", "--all", "--out", out).code == 1
    assert out.read_bytes() == good


def test_a_list_that_is_not_there_is_refused(run: Run, fake: FakeCa) -> None:
    fake.answer("GetRevocationList", RevocationListNotFound("there is none"))
    assert run("crl", "show", "nobody").code == 1


def test_revoking_many_waits_for_the_end_and_says_how_many(run: Run, fake: FakeCa) -> None:
    begun, ended = operation_pb.Operation(), operation_pb.Operation()
    begun.CopyFrom(OPERATION)
    begun.state = operation_pb.OPERATION_STATE_RUNNING
    ended.CopyFrom(OPERATION)
    ended.done = ended.total = 12
    row = pb.Certificate(name=f"certificates/{'1' * 32}", state=pb.CERTIFICATE_STATE_VALID)
    fake.answer("ListCertificates", pb.ListCertificatesResponse(certificates=[row] * 12))
    fake.answer("RevokeCertificates", begun)
    fake.answer("WatchOperation", [begun, ended])
    done = run("cert", "revoke-many", "--profile", "server", "--reason", "superseded", "--yes")
    assert done.code == 0, done.err
    assert "12 of 12" in done.out
    assert done.err == "revoking 12 certificates\n"
    assert {each.request.profile for each in fake.received[:2]} == {"profiles/server"}
    again = run("cert", "revoke-many", "--requester", "spiffe://x", "--reason", "superseded", "--yes", "--no-wait")
    assert "running" in again.out


def test_operations_are_listed_shown_and_cancelled(run: Run, fake: FakeCa) -> None:
    fake.answer("ListOperations", operation_pb.ListOperationsResponse(operations=[OPERATION]))
    fake.answer("GetOperation", OPERATION)
    fake.answer("CancelOperation", OPERATION)
    assert run("operation", "list", "--output", "json").document[0]["state"] == "succeeded"
    assert run("operation", "show", "1", "--output", "json").document["method"] == "RevokeCertificates"
    assert run("operation", "cancel", "1").code == 0
    assert fake.methods() == ["ListOperations", "GetOperation", "CancelOperation"]
    table = run("operation", "list").out + run("operation", "show", "1").out
    assert "waiting" not in table.lower(), "there is nothing to say"


def test_what_an_operation_waits_for_is_listed_shown_and_watched(run: Run, fake: FakeCa) -> None:
    waiting, ended = operation_pb.Operation(), operation_pb.Operation()
    waiting.CopyFrom(OPERATION)
    ended.CopyFrom(OPERATION)
    waiting.state = operation_pb.OPERATION_STATE_RUNNING
    waiting.done, waiting.total = 1, 2
    for name in ("members/web-1.example.test", "members/web-2.example.test"):
        waiting.waiting.add(resource=name, reason="restart").start_time.CopyFrom(stamp(BEGIN))
    since = BEGIN.strftime("%Y-%m-%dT%H:%M:%SZ")
    lines = [f"members/web-{number}.example.test: restart (since {since})" for number in (1, 2)]
    fake.answer("ListOperations", operation_pb.ListOperationsResponse(operations=[waiting, OPERATION]))
    fake.answer("GetOperation", waiting)
    fake.answer("WatchOperation", [waiting, ended])
    assert run("operation", "show", "1", "--output", "json").document["waiting"] == [
        {"resource": "members/web-1.example.test", "reason": "restart", "since": since},
        {"resource": "members/web-2.example.test", "reason": "restart", "since": since},
    ]
    shown = run("operation", "show", "1").out.splitlines()
    assert [line.removeprefix("waiting").strip() for line in shown[-2:]] == lines
    listed = run("operation", "list").out.splitlines()
    assert listed[0].endswith("WAITING")
    assert listed[1].endswith(", ".join(lines))
    watched = run("operation", "watch", "1").out.splitlines()
    assert watched == [
        f"operations/1: running, 1 of 2 done; waiting for {lines[0]}; waiting for {lines[1]}",
        "operations/1: succeeded",
    ]
    assert run("operation", "watch", "1", "--quiet").out == "succeeded\n"
    assert run("operation", "watch", "1", "--output", "json").document["state"] == "succeeded"
