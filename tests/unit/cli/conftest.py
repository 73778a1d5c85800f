"""The command line in this process, and a fake CA that signs."""

import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from keyreeve.ca.v1 import authority_service_pb2 as authority_pb
from keyreeve.ca.v1 import certificate_service_pb2 as pb
from keyreeve.ca.v1 import profile_service_pb2 as profile_pb
from support.command_line import Run, runner
from support.fake_ca_server import FakeCa
from support.peer_certificates import TestCa


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    for variable in ("KEYREEVE_CONTEXT", "KEYREEVE_DIR", "FORCE", "NO_COLOR"):
        monkeypatch.delenv(variable, raising=False)
    return runner(capsys)


@pytest.fixture
def fake(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeCa]:
    """A fake CA whose context every command of the test finds; `SignCertificate` and `RenewCertificate` sign."""
    with FakeCa(tmp_path).running() as running:
        signer = Signer()
        running.context.estate_bundle.write_bytes(signer.root.pem)
        context = tmp_path / "context.json"
        running.context.save(context)
        monkeypatch.setenv("KEYREEVE_CONTEXT", str(context))
        running.answer("SignCertificate", signer.sign)
        running.answer("RenewCertificate", signer.sign)
        authority = signer.authority()
        running.answer("GetAuthority", authority)
        running.answer("ListAuthorities", authority_pb.ListAuthoritiesResponse(authorities=[authority]))
        running.answer("GetProfile", profile_pb.Profile(name="profiles/server", document='{"hierarchy": "estate"}'))
        yield running


class Signer:
    """Signs every request, with an issuing CA below its own root."""

    def __init__(self) -> None:
        self.root = TestCa.root("estate root")
        self.issuing = self.root.issuing("estate issuing")

    def authority(self) -> authority_pb.Authority:
        """The issuing CA as the service shows it."""
        return authority_pb.Authority(
            name="authorities/estate-issuing-1",
            certificate_der=self.issuing.certificate.public_bytes(Encoding.DER),
            kind=authority_pb.AUTHORITY_KIND_INTERMEDIATE,
            hierarchy=authority_pb.HIERARCHY_ESTATE,
            state=authority_pb.AUTHORITY_STATE_ACTIVE,
            key_type=authority_pb.AUTHORITY_KEY_TYPE_P256,
        )

    async def sign(self, request: Any, _context: Any) -> pb.SignCertificateResponse:
        item = request.item if isinstance(request, pb.SignCertificateRequest) else None
        csr = item.csr if item else request.csr
        requested = x509.load_pem_x509_csr(csr) if csr.startswith(b"-----") else x509.load_der_x509_csr(csr)
        names = [x509.DNSName(name.value) for name in item.names] if item else []
        for extension in requested.extensions:
            if isinstance(extension.value, x509.SubjectAlternativeName):
                names += list(extension.value)
        begin = datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=5)
        # Deterministic: the same key asking again gets the same serial number, as in the real ledger.
        serial = int.from_bytes(hashlib.sha256(csr).digest()[:16]) >> 1
        certificate = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([]))
            .issuer_name(self.issuing.certificate.subject)
            .public_key(requested.public_key())
            .serial_number(serial)
            .not_valid_before(begin)
            .not_valid_after(begin + timedelta(days=90))
            .add_extension(x509.SubjectAlternativeName(names or [x509.DNSName("renewed.example.test")]), critical=True)
            .add_extension(x509.ExtendedKeyUsage([x509.ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self.issuing.key.public_key()), critical=False
            )
            .sign(self.issuing.key, hashes.SHA256())
        )
        answer = pb.SignCertificateResponse(
            certificate=pb.Certificate(
                name=f"certificates/{serial:032x}",
                authority="authorities/estate",
                profile="profiles/server",
                certificate_der=certificate.public_bytes(Encoding.DER),
            ),
            chain_der=[one.public_bytes(Encoding.DER) for one in self.issuing.chain],
        )
        answer.certificate.not_before_time.FromDatetime(certificate.not_valid_before_utc)
        answer.certificate.not_after_time.FromDatetime(certificate.not_valid_after_utc)
        answer.renew_time.FromDatetime(begin + timedelta(days=60))
        return answer
