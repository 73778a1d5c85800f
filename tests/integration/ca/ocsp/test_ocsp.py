"""The OCSP responder, queried by libraries and by openssl."""

import base64
import hashlib
import socket
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from pkilint import loader, pkix
from pkilint.pkix import extension, name
from pkilint.pkix import ocsp as ocsp_lint

from keyreeve.keys import make_key
from keyreeve.values import AuthorityKind, CrlReason, Hierarchy, SignedCertificate, to_pem
from keyreeve_ca.certificates import serials
from keyreeve_chassis.settings.sections import HttpSettings
from support.programs import needs
from support.running_ca import RunningCa, running, server_csr, unique
from support.waiting import wait_for

STATUS = ocsp.OCSPCertStatus


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def ca(request: pytest.FixtureRequest) -> Iterator[RunningCa]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]  # certificates name it, so it has to be known beforehand
    http = {"http": HttpSettings(port=port), "http_url": f"http://127.0.0.1:{port}"}
    with running(request.param, request, workers=1, started=False, **http) as made:
        yield made


def sign(ca: RunningCa) -> SignedCertificate:
    return ca.client().certificates.sign("server", server_csr(f"{unique('web')}.example.test", key=make_key()))


def pair(signed: SignedCertificate) -> tuple[x509.Certificate, x509.Certificate]:
    return x509.load_der_x509_certificate(signed.certificate_der), x509.load_der_x509_certificate(signed.chain_der[0])


def post(ca: RunningCa, body: bytes, kind: str = "application/ocsp-request") -> tuple[bytes, dict[str, str]]:
    url = f"http://127.0.0.1:{ca.coordinator.http_port}/ocsp"
    asked = urllib.request.Request(url, body, {"Content-Type": kind})
    with urllib.request.urlopen(asked, timeout=20) as answer:
        return answer.read(), dict(answer.headers)


def request_for(
    leaf: x509.Certificate,
    issuer: x509.Certificate,
    *,
    nonce: bytes | None = None,
    digest: hashes.HashAlgorithm | None = None,
) -> bytes:
    builder = ocsp.OCSPRequestBuilder().add_certificate(leaf, issuer, digest or hashes.SHA1())  # RFC 5019
    if nonce is not None:
        builder = builder.add_extension(x509.OCSPNonce(nonce), critical=False)
    return builder.build().public_bytes(Encoding.DER)


def ask(ca: RunningCa, leaf: x509.Certificate, issuer: x509.Certificate, **options: object) -> ocsp.OCSPResponse:
    return ocsp.load_der_ocsp_response(post(ca, request_for(leaf, issuer, **options))[0])  # type: ignore[arg-type]


def test_a_certificate_is_good_until_it_is_revoked_and_the_answer_is_the_delegated_keys(ca: RunningCa) -> None:
    signed = sign(ca)
    leaf, issuer = pair(signed)
    before = ask(ca, leaf, issuer)
    assert (before.certificate_status, before.serial_number) == (STATUS.GOOD, leaf.serial_number)
    ca.client().certificates.revoke(signed.serial, CrlReason.KEY_COMPROMISE)
    after = wait_for(
        "the answer changes",
        lambda: next((one for one in [ask(ca, leaf, issuer)] if one.certificate_status is STATUS.REVOKED), None),
        5.0,
    )
    assert after.revocation_reason is x509.ReasonFlags.key_compromise
    [responder] = after.certificates
    responder.verify_directly_issued_by(issuer)
    assert list(responder.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == [
        x509.ExtendedKeyUsageOID.OCSP_SIGNING
    ]
    assert responder.extensions.get_extension_for_class(x509.OCSPNoCheck)
    key = responder.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    key.verify(after.signature, after.tbs_response_bytes, ec.ECDSA(hashes.SHA256()))
    assert before.certificates == [responder], "made once, and used again"
    assert after.this_update_utc < datetime.now(UTC) < (after.next_update_utc or datetime.min.replace(tzinfo=UTC))


@pytest.mark.parametrize("digest", [hashes.SHA1(), hashes.SHA256(), hashes.SHA384(), hashes.SHA512()])
def test_a_nonce_comes_back_and_the_issuer_may_be_named_with_any_hash(
    ca: RunningCa, digest: hashes.HashAlgorithm
) -> None:
    leaf, issuer = pair(sign(ca))
    answer = ask(ca, leaf, issuer, nonce=b"n" * 32, digest=digest)
    assert answer.certificate_status is STATUS.GOOD
    assert answer.extensions.get_extension_for_class(x509.OCSPNonce).value.nonce == b"n" * 32
    assert not list(ask(ca, leaf, issuer).extensions)


def test_the_linter_finds_nothing(ca: RunningCa) -> None:
    signed = sign(ca)
    leaf, issuer = pair(signed)
    ca.client().certificates.revoke(signed.serial, CrlReason.SUPERSEDED)
    validator = ocsp_lint.create_pkix_ocsp_response_validator_container(
        [
            ocsp_lint.create_response_decoder(),
            pkix.create_attribute_decoder(name.ATTRIBUTE_TYPE_MAPPINGS),
            pkix.create_extension_decoder(extension.EXTENSION_MAPPINGS),
        ],
        [],
    )
    for nonce in (None, b"n" * 32):
        root = loader.load_ocsp_response(post(ca, request_for(leaf, issuer, nonce=nonce))[0], "answer").root
        assert [
            (found.finding.severity.name, found.finding.code)
            for result in validator.validate(root)
            for found in result.finding_descriptions
            if found.finding.severity.name in ("FATAL", "ERROR", "WARNING", "NOTICE")
        ] == []


def test_an_answer_by_get_is_the_same_and_may_be_kept(ca: RunningCa) -> None:
    leaf, issuer = pair(sign(ca))
    path = urllib.parse.quote(base64.b64encode(request_for(leaf, issuer)).decode(), safe="")
    url = f"http://127.0.0.1:{ca.coordinator.http_port}/ocsp/{path}"
    with urllib.request.urlopen(url, timeout=20) as answer:
        told = ocsp.load_der_ocsp_response(answer.read())
        assert (told.certificate_status, answer.headers["Content-Type"]) == (STATUS.GOOD, "application/ocsp-response")
        assert answer.headers["Cache-Control"] == "public, max-age=60"
    assert post(ca, request_for(leaf, issuer))[1]["Cache-Control"] == "no-store"


def test_a_serial_number_that_was_never_issued_is_unknown_and_an_issuer_of_others_is_not_answered_for(
    ca: RunningCa,
) -> None:
    leaf, issuer = pair(sign(ca))
    for number in (1, leaf.serial_number ^ 1, 1 << 150):
        built = ocsp.OCSPRequestBuilder().add_certificate_by_hash(*hashed(issuer), number, hashes.SHA1())
        answer = ocsp.load_der_ocsp_response(post(ca, built.build().public_bytes(Encoding.DER))[0])
        assert answer.certificate_status is STATUS.UNKNOWN
    built = ocsp.OCSPRequestBuilder().add_certificate_by_hash(b"x" * 20, b"y" * 20, 5, hashes.SHA1())
    answer = ocsp.load_der_ocsp_response(post(ca, built.build().public_bytes(Encoding.DER))[0])
    assert answer.response_status is ocsp.OCSPResponseStatus.UNAUTHORIZED


def hashed(issuer: x509.Certificate) -> tuple[bytes, bytes]:
    name_hash = hashlib.sha1(issuer.subject.public_bytes(), usedforsecurity=False).digest()
    return name_hash, x509.SubjectKeyIdentifier.from_public_key(issuer.public_key()).digest  # type: ignore[arg-type]


@pytest.mark.parametrize("body", [b"", b"junk", b"0" * 5000])
def test_what_is_no_request_is_malformed(ca: RunningCa, body: bytes) -> None:
    answer = ocsp.load_der_ocsp_response(post(ca, body)[0])
    assert answer.response_status is ocsp.OCSPResponseStatus.MALFORMED_REQUEST


def test_a_revoked_intermediate_is_revoked_by_its_root(ca: RunningCa) -> None:
    client, word = ca.client(), unique("estate")
    made = client.authorities.create(
        word, hierarchy=Hierarchy.ESTATE, kind=AuthorityKind.INTERMEDIATE, issuer="estate-root-1", common_name=word
    )
    leaf = x509.load_der_x509_certificate(made.certificate_der)
    root = x509.load_der_x509_certificate(client.authorities.get("estate-root-1").certificate_der)
    wait_for("the coordinator to know it", lambda: ask(ca, leaf, root).certificate_status is STATUS.GOOD, 5)
    client.authorities.revoke(word, CrlReason.CA_COMPROMISE)
    wait_for("its revocation", lambda: ask(ca, leaf, root).certificate_status is STATUS.REVOKED, 5)


def test_what_a_crashed_worker_may_have_signed_is_revoked(request: pytest.FixtureRequest) -> None:
    with running("sqlite", request, workers=1, http=HttpSettings(port=0)) as ca:
        entry = ca.issue("workloads/billing/api", make_key())
        block = ca.coordinator.issuance.commit_queues.of(entry.authority_id).block
        assert block is not None
        issuer = x509.load_der_x509_certificate(ca.client().authorities.get(entry.authority_id).certificate_der)

        used = ca.coordinator.issuance.commit_queues.of(
            entry.authority_id
        ).counter  # the client's own certificate is of this block

        def status(number: int) -> STATUS:
            built = ocsp.OCSPRequestBuilder().add_certificate_by_hash(*hashed(issuer), number, hashes.SHA1())
            return ocsp.load_der_ocsp_response(post(ca, built.build().public_bytes(Encoding.DER))[0]).certificate_status

        phantom = int.from_bytes(serials.serial(block.block_id, block.seed, used))
        assert status(phantom) is STATUS.UNKNOWN
        ca.coordinator.issuance.commit_queues.used.clear()  # it knows nothing of its block, as if it had been killed
        ca.stop()
        ca.start()
        wait_for("its phantoms", lambda: status(phantom) is STATUS.REVOKED, 10)
        assert status(int.from_bytes(entry.serial)) is STATUS.GOOD


@needs("openssl")
def test_openssl_agrees_with_the_ledger(ca: RunningCa, tmp_path: Path) -> None:
    kept, gone = sign(ca), sign(ca)
    ca.client().certificates.revoke(gone.serial, CrlReason.SUPERSEDED)
    told = {}
    for which, signed in (("kept", kept), ("gone", gone)):
        (tmp_path / "leaf.pem").write_text(to_pem([signed.certificate_der]))
        (tmp_path / "issuer.pem").write_text(to_pem(signed.chain_der))
        command = ["openssl", "ocsp", "-issuer", "issuer.pem", "-cert", "leaf.pem", "-CAfile"]
        command += [str(ca.client().context.estate_bundle), "-verify_other", "issuer.pem", "-url"]
        command += [f"http://127.0.0.1:{ca.coordinator.http_port}/ocsp"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, check=False)
        told[which] = (done.stdout + done.stderr).decode()
    assert "Response verify OK" in told["kept"], told
    assert "leaf.pem: good" in told["kept"], told
    assert "leaf.pem: revoked" in told["gone"], told
    assert "superseded" in told["gone"].lower()


@needs("openssl")
def test_the_addresses_in_a_certificate_are_all_that_openssl_needs(ca: RunningCa, tmp_path: Path) -> None:
    client = ca.client()
    kept, gone = sign(ca), sign(ca)
    client.certificates.revoke(gone.serial, CrlReason.SUPERSEDED)
    issuing = client.authorities.get(kept.authority).certificate_der
    for der, status in ((kept.certificate_der, "good"), (gone.certificate_der, "revoked"), (issuing, "good")):
        (tmp_path / "cert.pem").write_text(to_pem([der]))
        address = subprocess.run(
            ["openssl", "x509", "-in", "cert.pem", "-noout", "-ocsp_uri"],
            cwd=tmp_path,
            capture_output=True,
            check=True,
            text=True,
        ).stdout.strip()
        access = x509.load_der_x509_certificate(der).extensions.get_extension_for_class(x509.AuthorityInformationAccess)
        [issuer] = [a for a in access.value if a.access_method == x509.AuthorityInformationAccessOID.CA_ISSUERS]
        with urllib.request.urlopen(issuer.access_location.value, timeout=20) as answer:
            (tmp_path / "issuer.pem").write_text(to_pem([answer.read()]))
        command = ["openssl", "ocsp", "-issuer", "issuer.pem", "-cert", "cert.pem", "-url", address]
        command += ["-CAfile", str(client.context.estate_bundle), "-verify_other", "issuer.pem"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, check=False)
        told = (done.stdout + done.stderr).decode()
        assert "Response verify OK" in told, told
        assert f"cert.pem: {status}" in told, told
