"""Places of output are tried first; files that are no certificates or are odd ones; spellings of serial numbers and times."""

import base64
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import typer
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    pkcs7,
    pkcs12,
)
from cryptography.x509.oid import NameOID

from keyreeve import errors
from keyreeve.audit.v1 import audit_service_pb2 as audit_pb
from keyreeve.ca.v1 import authority_service_pb2 as authority_pb
from keyreeve.ca.v1 import certificate_service_pb2 as pb
from keyreeve.cli.calling import read_past
from keyreeve.cli.certificates.serial_numbers import read_serials
from keyreeve.keys import make_csr
from keyreeve.values import Name
from support.command_line import Run
from support.der_writer import bit_string, integer, oid, sequence, tlv
from support.fake_ca_server import FakeCa
from support.peer_certificates import TestCa
from support.sdk_calls import OPERATION

SERIAL = "406ddc42c000068ab06689dd4ad10bba"
KEY = ec.derive_private_key(5, ec.SECP256R1())
START, END = datetime(2031, 1, 1, tzinfo=UTC), datetime(2031, 2, 1, tzinfo=UTC)


@pytest.fixture
def csr(tmp_path: Path) -> Path:
    file = tmp_path / "r.csr"
    file.write_bytes(make_csr(KEY, [Name.dns("web.example.test")]))
    return file


def test_what_cannot_be_written_is_refused_before_anything_is_asked(
    fake: FakeCa, run: Run, csr: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file", "/proc/web", tmp_path / "file" / "web"):
        done = run("cert", "issue", "a.test", "--out", out)
        assert done.code == 2, out
        assert "FILE_UNUSABLE" in done.err
    for out in (tmp_path, "/proc/c.pem", tmp_path / "none" / "c.pem", tmp_path / "file" / "c.pem"):
        assert run("cert", "sign", "--csr", csr, "--out", out).code == 2, out
        assert run("crl", "fetch", "estate-issuing-1", "--out", out).code == 2, out
    assert fake.received == []
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted({"file", "r.csr"} | _of_context(tmp_path))


def _of_context(tmp_path: Path) -> set[str]:
    return {path.name for path in tmp_path.iterdir() if path.name not in {"file", "r.csr"}}


WITHOUT_OUTPUT = ("sh", "-c", 'exec "$0" "$@" >&-')
"""Runs a command whose standard output is closed."""


@pytest.mark.parametrize(
    ("output", "arguments"),
    [
        ("full", ["cert", "sign", "--csr", "r.csr"]),
        ("closed", ["cert", "sign", "--csr", "r.csr"]),
        ("none", ["cert", "sign", "--csr", "r.csr"]),
        ("full", ["token", "create", "workloads/a"]),
        ("full", ["operator", "invite", "bea", "--role", "auditor"]),
    ],
)
def test_a_standard_output_that_takes_nothing_is_refused_before_anything_is_asked(
    fake: FakeCa, csr: Path, output: str, arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(csr.parent)
    command = [sys.executable, "-m", "keyreeve.cli", *arguments]
    if output == "full":
        with Path("/dev/full").open("wb") as full:
            done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, check=False, timeout=60)
    elif output == "none":
        done = subprocess.run([*WITHOUT_OUTPUT, *command], stderr=subprocess.PIPE, check=False, timeout=60)
    else:
        reader, writer = os.pipe()
        os.close(reader)
        done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, check=False, timeout=60)
        os.close(writer)
    assert done.returncode != 0
    assert b"Traceback" not in done.stderr
    assert b"cannot write standard output" in done.stderr
    assert fake.received == []


def test_without_a_standard_output_files_are_written_and_no_other_file_gets_its_number(
    fake: FakeCa, tmp_path: Path
) -> None:
    issue = [sys.executable, "-m", "keyreeve.cli", "cert", "issue", "a.test", "--out", str(tmp_path / "a")]
    done = subprocess.run([*WITHOUT_OUTPUT, *issue], stderr=subprocess.PIPE, text=True, check=False, timeout=60)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "cannot write standard output" in done.stderr
    assert x509.load_pem_x509_certificates((tmp_path / "a/certificate.pem").read_bytes())


def test_output_that_is_lost_after_all_is_told_in_one_line(fake: FakeCa) -> None:
    with Path("/dev/full").open("wb") as full:
        command = [sys.executable, "-m", "keyreeve.cli", "version"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, check=False, timeout=60)
    assert done.returncode == 1
    assert done.stderr == b"error: cannot write standard output: No space left on device\n"


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_output_that_a_locale_cannot_show_is_replaced(fake: FakeCa, tmp_path: Path, encoding: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "keyreeve.cli", "cert", "issue", "b.test", "--out", str(tmp_path / "b")],
        capture_output=True,
        check=False,
        timeout=60,
        env=os.environ | {"PYTHONIOENCODING": encoding},
    )
    assert done.returncode == 0, done.stderr
    assert b"\\u2714" in done.stdout
    assert (tmp_path / "b/certificate.pem").exists()


def test_a_certificate_of_the_ledger_is_shown_and_written_again(
    fake: FakeCa, run: Run, csr: Path, tmp_path: Path
) -> None:
    assert run("cert", "sign", "--csr", csr, "--out", tmp_path / "c.pem").code == 0
    leaf, issuer = x509.load_pem_x509_certificates((tmp_path / "c.pem").read_bytes())
    found = pb.Certificate(
        name=f"certificates/{SERIAL}", authority="authorities/estate-issuing-1", identity="web.example.test"
    )
    found.state = pb.CERTIFICATE_STATE_VALID
    found.certificate_der = leaf.public_bytes(Encoding.DER)
    fake.answer("GetCertificate", found)
    authority = authority_pb.Authority(
        name="authorities/estate-issuing-1", certificate_der=issuer.public_bytes(Encoding.DER)
    )
    authority.kind = authority_pb.AUTHORITY_KIND_INTERMEDIATE
    authority.hierarchy = authority_pb.HIERARCHY_ESTATE
    authority.state = authority_pb.AUTHORITY_STATE_ACTIVE
    authority.key_type = authority_pb.AUTHORITY_KEY_TYPE_P256
    fake.answer("GetAuthority", authority)
    shown = run("cert", "show", SERIAL.upper(), "-o", "json")
    assert shown.code == 0, shown.err
    assert shown.document["identity"] == "web.example.test"
    assert run("cert", "get", SERIAL, "--out", tmp_path / "again.pem").code == 0
    assert (tmp_path / "again.pem").read_bytes() == (tmp_path / "c.pem").read_bytes()


@pytest.mark.parametrize(
    "spelling",
    [
        SERIAL,
        SERIAL.upper(),
        ":".join(SERIAL[at : at + 2] for at in range(0, 32, 2)),
        f"serial={SERIAL.upper()}",
        f"0x{SERIAL}",
        str(int(SERIAL, 16)),
        f"certificates/{SERIAL}",
    ],
)
def test_a_serial_number_is_read_in_each_spelling(spelling: str) -> None:
    assert read_serials(spelling) == [SERIAL]


def test_what_is_no_serial_number_is_refused_and_a_file_is_read(
    fake: FakeCa, run: Run, csr: Path, tmp_path: Path
) -> None:
    done = run("cert", "revoke", "foobar", "--reason", "superseded")
    assert done.code == 2
    assert "foobar" in done.err
    assert fake.received == []
    assert run("cert", "sign", "--csr", csr, "--out", tmp_path / "c.pem").code == 0
    leaf = x509.load_pem_x509_certificates((tmp_path / "c.pem").read_bytes())[0]
    assert read_serials(str(tmp_path / "c.pem"))[0] == f"{leaf.serial_number:032x}"


def test_a_span_is_in_the_past_where_a_past_is_meant() -> None:
    read = read_past("30d")
    assert read is not None
    assert abs(datetime.now(UTC) - timedelta(days=30) - read) < timedelta(minutes=1)
    assert read_past("2031-01-01T00:00:00Z") == START


def test_revoking_many_wants_a_condition_and_a_span_that_can_match(fake: FakeCa, run: Run) -> None:
    fake.answer("ListCertificates", pb.ListCertificatesResponse())
    assert run("cert", "revoke-many", "--reason", "superseded", "--yes").code == 2
    impossible = ("--issued-from", "1h", "--issued-before", "30d")
    assert run("cert", "revoke-many", "--reason", "superseded", "--yes", *impossible).code == 2
    assert fake.received == []
    none = run("cert", "revoke-many", "--reason", "superseded", "--issued-before", "30d")
    assert none.code == 1
    assert "no valid certificate matches" in none.err
    assert fake.methods() == ["ListCertificates"]


def test_revoking_many_shows_the_count_and_asks_first_and_sends_instants_of_the_past(
    fake: FakeCa, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def certificate(number: int, age: timedelta) -> pb.Certificate:
        made = pb.Certificate(name=f"certificates/{number:032x}", state=pb.CERTIFICATE_STATE_VALID)
        made.issue_time.FromDatetime(datetime.now(UTC) - age)
        return made

    listed = [
        certificate(1, timedelta(seconds=5)),
        certificate(2, timedelta(days=40)),
        certificate(3, timedelta(days=50)),
    ]
    fake.answer("ListCertificates", pb.ListCertificatesResponse(certificates=listed))
    fake.answer("RevokeCertificates", OPERATION)
    asked: list[str] = []

    def answer(question: str, *, abort: bool) -> None:
        asked.append(question)
        if len(asked) == 1:
            raise typer.Abort

    monkeypatch.setattr(typer, "confirm", answer)
    old = ("cert", "revoke-many", "--reason", "superseded", "--no-wait", "--issued-before", "30d")
    assert run(*old).code != 0
    assert fake.methods() == ["ListCertificates"]
    assert run(*old).code == 0
    assert asked == ["Revoke 2 certificates? It cannot be undone."] * 2
    told = run(*old, "--yes")
    assert told.code == 0
    assert told.err == "revoking 2 certificates\n"
    assert len(asked) == 2
    sent = fake.received[-1].request.issued_before_time.ToDatetime(UTC)
    assert abs(datetime.now(UTC) - timedelta(days=30) - sent) < timedelta(minutes=1)


def test_spans_that_match_nothing_say_so_and_impossible_ones_are_refused(fake: FakeCa, run: Run) -> None:
    fake.answer("ListCertificates", pb.ListCertificatesResponse())
    fake.answer("ListAuditRecords", audit_pb.ListAuditRecordsResponse(at_end=True))
    assert run("cert", "list", "--expires-before", "1h").out == "no certificate matches\n"
    assert run("cert", "list", "--expires-before", "1h", "-o", "json").document == []
    assert run("audit", "list", "--since", "1h").out == "no record matches\n"
    calls = len(fake.received)
    assert run("audit", "list", "--since", "1h", "--until", "2h").code == 2
    assert len(fake.received) == calls


def test_conditions_of_the_ledger_are_refused_beside_a_serial_number(fake: FakeCa, run: Run) -> None:
    for option in (("--state", "valid"), ("--profile", "server"), ("--limit", "1"), ("--own",)):
        assert run("cert", "list", SERIAL, *option).code == 2
    assert fake.received == []


def test_a_file_that_is_no_request_is_told_before_anything_is_sent(fake: FakeCa, run: Run, tmp_path: Path) -> None:
    certificate = x509.load_pem_x509_certificate(odd())
    files = {
        "private key": KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        "certificate": certificate.public_bytes(Encoding.PEM),
        "PKCS #12": pkcs12.serialize_key_and_certificates(b"web", KEY, certificate, None, NoEncryption()),
        "must never be sent": b"PuTTY-User-Key-File-2: ecdsa-sha2-nistp256\n",
    }
    for told, data in files.items():
        (tmp_path / "file").write_bytes(data)
        done = run("cert", "sign", "--csr", tmp_path / "file")
        assert done.code != 0
        assert told in done.err
        assert "nothing has been sent" in done.err
    for told in ("private key", "PKCS #12", "must never be sent"):
        (tmp_path / "file").write_bytes(files[told])
        for command in (("profile", "apply", "web"), ("profile", "simulate", "web")):
            done = run(*command, tmp_path / "file")
            assert done.code == 2
            assert "nothing has been sent" in done.err
    assert fake.received == []


def test_a_form_that_fails_after_all_names_the_certificate_that_was_issued(
    fake: FakeCa, run: Run, tmp_path: Path
) -> None:
    (tmp_path / "full" / "fullchain.pem").mkdir(parents=True)
    (tmp_path / "full" / "root.pem").write_text("")
    assert run("cert", "issue", "a.test", "--out", tmp_path / "full", "--form", "fullchain").code == 2
    (tmp_path / "full" / "chain.pem").mkdir()
    assert run("cert", "issue", "a.test", "--out", tmp_path / "full").code == 2
    assert fake.received == []
    fake.context.estate_bundle.write_bytes(TestCa.root("another").pem)
    fake.answer("ListAuthorities", authority_pb.ListAuthoritiesResponse())
    done = run("cert", "issue", "a.test", "--out", tmp_path / "web", "--form", "root")
    assert done.code == 2
    leaf = x509.load_pem_x509_certificate((tmp_path / "web/certificate.pem").read_bytes())
    assert f"cert get {leaf.serial_number:032x}" in done.err


def test_the_form_root_is_refused_before_anything_is_issued_when_the_bundle_lacks_the_root(
    fake: FakeCa, run: Run, csr: Path, tmp_path: Path
) -> None:
    fake.context.estate_bundle.write_bytes(TestCa.root("another").pem)
    issue = ("cert", "issue", "a.test", "--out", tmp_path / "web", "--form", "root")
    sign = ("cert", "sign", "--csr", csr, "--out", tmp_path / "root.pem", "--form", "root")
    for command in (issue, sign):
        for signer in ((), ("--authority", "estate-issuing-1")):
            done = run(*command, *signer)
            assert done.code == 2
            assert "lacks the root of estate-issuing-1" in done.err
    assert set(fake.methods()) == {"GetProfile", "ListAuthorities", "GetAuthority"}
    assert not (tmp_path / "web").exists()
    assert not (tmp_path / "root.pem").exists()


def test_list_shows_all_pages_without_the_cas_own(fake: FakeCa, run: Run) -> None:
    def row(number: int, profile: str) -> pb.Certificate:
        made = pb.Certificate(name=f"certificates/{number:032x}", profile=f"profiles/{profile}")
        made.state = pb.CERTIFICATE_STATE_VALID
        made.issue_time.seconds = number
        return made

    rows = [row(n, "service" if n % 2 else "server") for n in range(200)]
    pages = {"": (rows[:100], "next"), "next": (rows[100:], "")}

    def page(request: pb.ListCertificatesRequest, _context: object) -> pb.ListCertificatesResponse:
        certificates, token = pages[request.page_token]
        return pb.ListCertificatesResponse(certificates=certificates, next_page_token=token)

    async def answer(request: pb.ListCertificatesRequest, context: object) -> pb.ListCertificatesResponse:
        return page(request, context)

    fake.answer("ListCertificates", answer)
    listed = run("cert", "list", "--quiet").out.split()
    assert listed == [f"{n:032x}" for n in range(198, -1, -2)]
    assert len(run("cert", "list", "--own", "--quiet").out.split()) == 200
    assert "ISSUED AT" in run("cert", "list", "--limit", "1").out


def test_listing_a_file_leaves_out_the_chain_which_the_ledger_has_not(
    fake: FakeCa, run: Run, csr: Path, tmp_path: Path
) -> None:
    assert run("cert", "sign", "--csr", csr, "--out", tmp_path / "c.pem").code == 0
    found = pb.Certificate(name=f"certificates/{SERIAL}", state=pb.CERTIFICATE_STATE_VALID)
    fake.script("GetCertificate", found, errors.CertificateNotFound("none"))
    assert run("cert", "list", tmp_path / "c.pem", "-q").out.split() == [SERIAL]
    fake.script("GetCertificate", errors.CertificateNotFound("none"), errors.CertificateNotFound("none"))
    assert run("cert", "list", tmp_path / "c.pem").code == 1


# --- Odd files ------------------------------------------------------------------------------------------------------------


def odd(*extensions: tuple[str, bytes], name: str = "web") -> bytes:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(KEY.public_key())
    builder = builder.not_valid_before(START).not_valid_after(END).serial_number(7)
    for dotted, value in extensions:
        builder = builder.add_extension(
            x509.UnrecognizedExtension(x509.ObjectIdentifier(dotted), value), critical=False
        )
    return builder.sign(KEY, hashes.SHA256()).public_bytes(Encoding.PEM)


@pytest.mark.parametrize(
    "data",
    [
        odd(("2.5.29.17", bytes.fromhex("3004820280ff"))),
        odd(("2.5.29.17", bytes.fromhex("300787050a00000105"))),
        odd(("2.5.29.17", bytes.fromhex("300a87080a000009ffffff00"))),
        odd(("2.5.29.15", bytes.fromhex("040200ff"))),
        odd(("2.5.29.37", b"\x05\x00")),
        odd(("2.5.29.31", b"\x04\x00")),
    ],
)
def test_a_certificate_that_cannot_be_read_whole_says_what_can(run: Run, tmp_path: Path, data: bytes) -> None:
    (tmp_path / "odd.pem").write_bytes(data)
    done = run("cert", "inspect", tmp_path / "odd.pem")
    assert done.code == 0
    assert f"{7:032x}" in done.out
    assert "cannot be read" in done.out or "ip:" in done.out
    assert "Traceback" not in done.err


def test_a_pkcs7_object_that_is_broken_or_no_signed_data_says_so(run: Run, tmp_path: Path) -> None:
    data = bytes.fromhex("301306092a864886f70d010701a00604046869210a")  # CMS data (RFC 5652, 4)
    for label, der in (("PKCS7", data), ("CMS", data), ("PKCS7", b"broken")):
        pem = f"-----BEGIN {label}-----\n{base64.b64encode(der).decode()}\n-----END {label}-----\n"
        (tmp_path / "odd.pem").write_bytes(pem.encode() + odd())
        done = run("cert", "inspect", tmp_path / "odd.pem")
        assert done.code == 0
        assert "cannot be read" in done.out
        assert f"{7:032x}" in done.out
        assert read_serials(str(tmp_path / "odd.pem")) == [f"{7:032x}"]


def certificate_of(subject: bytes, key: bytes = b"", extensions: bytes = b"") -> bytes:
    """A certificate with a signature of zeros around the given parts, in DER."""
    algorithm = sequence(oid("1.2.840.10045.4.3.2"))
    validity = sequence(tlv(0x17, b"310101000000Z"), tlv(0x17, b"310201000000Z"))
    name = sequence(tlv(0x31, sequence(oid("2.5.4.3"), subject)))
    spki = key or KEY.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    more = tlv(0xA3, sequence(extensions)) if extensions else b""
    version = tlv(0xA0, integer(2))
    return sequence(
        sequence(version, integer(7), algorithm, name, validity, name, spki, more), algorithm, bit_string(bytes(8))
    )


WEB = tlv(0x0C, b"web")
USAGE = sequence(oid("2.5.29.15"), tlv(0x04, bit_string(b"\x80", 7)))
GOST_KEY = sequence(
    sequence(oid("1.2.643.7.1.1.1.1"), sequence(oid("1.2.643.2.2.35.1"))), bit_string(tlv(0x04, bytes(64)))
)


@pytest.mark.parametrize(
    "der",
    [
        certificate_of(WEB, extensions=USAGE + USAGE),
        certificate_of(WEB, key=GOST_KEY),
        certificate_of(tlv(0x14, b"M\xfcl\x1be")),
    ],
    ids=["duplicate extension", "GOST key", "T61 subject"],
)
def test_a_certificate_of_an_odd_kind_is_inspected(run: Run, tmp_path: Path, der: bytes) -> None:
    (tmp_path / "odd.der").write_bytes(der)
    done = run("cert", "inspect", tmp_path / "odd.der")
    assert done.code == 0, done.err
    assert f"{7:032x}" in done.out
    assert "\x1b" not in done.out
    assert "Traceback" not in done.err


def test_a_certificate_that_cannot_be_read_at_all_says_why(run: Run, tmp_path: Path) -> None:
    whole = certificate_of(WEB)
    (tmp_path / "odd.der").write_bytes(whole.replace(b"310101000000Z", b"319901000000Z"))
    done = run("cert", "inspect", tmp_path / "odd.der")
    assert done.code == 0
    assert "certificate" in done.out
    assert "cannot be read" in done.out


def test_a_crl_of_an_odd_kind_is_inspected(run: Run, tmp_path: Path) -> None:
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "odd\x1b[2J")])
    builder = x509.CertificateRevocationListBuilder().issuer_name(issuer).last_update(START).next_update(END)
    whole = builder.sign(KEY, hashes.SHA256()).public_bytes(Encoding.DER)
    (tmp_path / "odd.crl").write_bytes(whole)
    done = run("cert", "inspect", tmp_path / "odd.crl")
    assert done.code == 0
    assert "CRL" in done.out
    assert "\x1b" not in done.out
    text = f"-----BEGIN X509 CRL-----\n{base64.b64encode(whole[:-9]).decode()}\n-----END X509 CRL-----\n"
    (tmp_path / "cut.pem").write_text(text)
    assert "cannot be read" in run("cert", "inspect", tmp_path / "cut.pem").out


def test_text_for_terminals_is_escaped(run: Run, tmp_path: Path) -> None:
    (tmp_path / "odd.pem").write_bytes(odd(name="web\x1b[2J\u202e"))
    done = run("cert", "inspect", tmp_path / "odd.pem")
    assert done.code == 0
    assert "\x1b[2J" not in done.out
    assert "\u202e" not in done.out


def test_requests_crls_pkcs7_and_pkcs12_are_named_and_read(run: Run, csr: Path, tmp_path: Path) -> None:
    certificate = x509.load_pem_x509_certificate(odd())
    crl = x509.CertificateRevocationListBuilder().issuer_name(certificate.subject).last_update(START).next_update(END)
    store = pkcs12.serialize_key_and_certificates(b"web", KEY, certificate, None, NoEncryption())
    from cryptography.hazmat.primitives.serialization import BestAvailableEncryption

    sealed = pkcs12.serialize_key_and_certificates(b"web", KEY, certificate, None, BestAvailableEncryption(b"sesame"))
    (tmp_path / "password").write_text("sesame\n")
    files = {
        "certificate request": csr.read_bytes(),
        "CRL": crl.sign(KEY, hashes.SHA256()).public_bytes(Encoding.PEM),
        "PKCS #7": pkcs7.serialize_certificates([certificate], Encoding.DER),
        "PKCS #12": store,
        "certificate": odd().decode().encode("utf-16"),
        "private key": KEY.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()),
    }
    for kind, data in files.items():
        (tmp_path / "file").write_bytes(data)
        done = run("cert", "inspect", tmp_path / "file")
        assert done.code == 0, (kind, done.err)
        assert kind in done.out
    (tmp_path / "file").write_bytes(sealed)
    assert "--password-file" in run("cert", "inspect", tmp_path / "file").out
    opened = run("cert", "inspect", tmp_path / "file", "--password-file", tmp_path / "password")
    assert "CN=web" in opened.out
    (tmp_path / "file").write_bytes(b"hello")
    assert run("cert", "inspect", tmp_path / "file").code == 2
