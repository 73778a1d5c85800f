"""`keyreeve blocked-key` and `keyreeve operator remove`: what is sent, and what a person is told."""

import hashlib
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from cryptography.x509 import load_der_x509_csr

from keyreeve.ca.v1 import certificate_service_pb2 as pb
from keyreeve.ca.v1 import crl_reason_pb2
from keyreeve.keys import make_csr, make_key
from keyreeve.values import Name
from support.command_line import Run
from support.fake_ca_server import FakeCa
from support.peer_certificates import TestCa
from support.sdk_calls import BLOCKED_KEY, CERTIFICATE, OPERATOR

KEY = make_key()
SPKI = KEY.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
PRIVATE = KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
SHA256 = hashlib.sha256(SPKI).digest()


@pytest.fixture
def blocking(fake: FakeCa) -> FakeCa:
    fake.answer("BlockKey", BLOCKED_KEY)
    fake.answer("ListBlockedKeys", pb.ListBlockedKeysResponse(blocked_keys=[BLOCKED_KEY]))
    return fake


@pytest.fixture
def removing(fake: FakeCa) -> FakeCa:
    """One certificate that the admin `bea` requested, in one of three roles."""
    fake.answer("RemoveOperator", OPERATOR)
    fake.answer("RevokeCertificate", CERTIFICATE)

    async def listed(request: pb.ListCertificatesRequest, _context: object) -> pb.ListCertificatesResponse:
        theirs = [CERTIFICATE] if "/admin/" in request.requester else []
        return pb.ListCertificatesResponse(certificates=theirs)

    fake.answer("ListCertificates", listed)
    return fake


@pytest.mark.parametrize("form", ["hash", "public key", "request", "certificate"])
def test_a_key_is_blocked_by_its_hash_whatever_names_it(run: Run, blocking: FakeCa, tmp_path: Path, form: str) -> None:
    place = tmp_path / "given.pem"
    texts = {
        "hash": b"",
        "public key": KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        "request": load_der_x509_csr(make_csr(KEY, [Name.dns("web.example.test")])).public_bytes(Encoding.PEM),
        "certificate": TestCa.root("other").pem,
    }
    place.write_bytes(texts[form])
    ran = run("blocked-key", "add", SHA256.hex() if form == "hash" else place, "--reason", "found in a repository")
    assert ran.code == 0, ran.err
    [call] = blocking.received
    assert len(call.request.spki_sha256) == 32
    assert form == "certificate" or call.request.spki_sha256 == SHA256
    assert call.request.reason == "found in a repository"


@pytest.mark.parametrize("content", [PRIVATE, b"no key", None])
def test_what_is_no_public_key_is_sent_nowhere(
    run: Run, blocking: FakeCa, tmp_path: Path, content: bytes | None
) -> None:
    place = tmp_path / "given.pem"
    if content is not None:
        place.write_bytes(content)
    assert run("blocked-key", "add", place, "--reason", "x").code != 0
    assert blocking.received == []


def test_blocked_keys_are_listed_with_who_blocked_them(run: Run, blocking: FakeCa) -> None:
    [row] = run("blocked-key", "list", "-o", "json").document
    assert row["sha256"] == BLOCKED_KEY.name.removeprefix("blockedKeys/")
    assert row["by"] == BLOCKED_KEY.creator
    assert run("blocked-key", "list", "-q").out == f"{row['sha256']}\n"


def test_the_first_admin_approves_the_removal_of_a_blocked_key_and_the_second_removes(run: Run, fake: FakeCa) -> None:
    approved, removed = pb.BlockedKey(), pb.BlockedKey()
    approved.CopyFrom(BLOCKED_KEY)
    approved.approver = "spiffe://example.test/operators/admin/ann"
    removed.CopyFrom(BLOCKED_KEY)
    removed.ClearField("approver")
    fake.script("UnblockKey", approved, removed)
    assert "another admin" in run("blocked-key", "remove", SHA256.hex(), "-q").out
    assert run("blocked-key", "remove", SHA256.hex(), "-q").out == "unblocked\n"
    assert [call.request.name for call in fake.received] == [f"blockedKeys/{SHA256.hex()}"] * 2


def test_what_an_operator_let_in_is_shown_without_removing_anybody(run: Run, removing: FakeCa) -> None:
    ran = run("operator", "remove", "bea", "--show", "-o", "json")
    assert [row["serial"] for row in ran.document] == [CERTIFICATE.name.removeprefix("certificates/")]
    assert set(removing.methods()) == {"ListCertificates"}


def test_what_the_holder_of_an_enrolled_identity_has_renewed_is_shown_and_nothing_else(run: Run, fake: FakeCa) -> None:
    workload = "spiffe://example.test/workloads/billing/api"

    def certificate(number: int, renews: int | None, state: pb.CertificateState.ValueType) -> pb.Certificate:
        made = pb.Certificate()
        made.CopyFrom(CERTIFICATE)
        made.name, made.identity, made.state = f"certificates/{number:032x}", workload, state
        made.renews = "" if renews is None else f"certificates/{renews:032x}"
        return made

    expired, valid = pb.CERTIFICATE_STATE_EXPIRED, pb.CERTIFICATE_STATE_VALID
    line = [certificate(1, None, expired), certificate(2, 1, expired), certificate(3, 2, valid)]
    other = [certificate(4, None, valid), certificate(5, 4, valid)]

    async def listed(request: pb.ListCertificatesRequest, _context: object) -> pb.ListCertificatesResponse:
        theirs = line[:1] if "/operator/" in request.requester else []
        return pb.ListCertificatesResponse(certificates=[*line, *other] if request.identity else theirs)

    fake.answer("ListCertificates", listed)
    ran = run("operator", "remove", "bea", "--show", "-o", "json")
    assert [row["serial"] for row in ran.document] == [f"{3:032x}"]


def test_what_an_operator_let_in_is_revoked_with_them_when_asked_for(run: Run, removing: FakeCa) -> None:
    ran = run("operator", "remove", "bea", "--revoke")
    assert "were revoked" in ran.out
    assert removing.methods()[-2:] == ["RemoveOperator", "RevokeCertificate"]
    assert removing.received[-1].request.name == CERTIFICATE.name
    assert removing.received[-1].request.reason == crl_reason_pb2.CRL_REASON_PRIVILEGE_WITHDRAWN
    assert removing.received[-1].request.lineage


def test_what_an_operator_let_in_stays_otherwise_and_is_told(run: Run, removing: FakeCa) -> None:
    ran = run("operator", "remove", "bea", "-o", "json")
    assert ran.document["left"] == [CERTIFICATE.name.removeprefix("certificates/")]
    assert "RevokeCertificate" not in removing.methods()
