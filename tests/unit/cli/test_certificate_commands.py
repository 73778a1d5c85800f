"""`keyreeve cert` against a fake CA over real mutual TLS."""

import io
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from keyreeve import errors
from keyreeve.ca.v1 import certificate_service_pb2 as pb
from keyreeve.cli.certificates import renewing
from keyreeve.keys import KeyType, Name, load_key, make_csr, make_key
from keyreeve.operations.v1 import operation_service_pb2 as operation_pb
from support.command_line import Run
from support.fake_ca_server import FakeCa
from support.sdk_calls import OPERATION


def test_issue_makes_a_private_key_and_a_certificate_with_its_chain_leaf_first(
    fake: FakeCa, run: Run, tmp_path: Path
) -> None:
    done = run("cert", "issue", "web.example.test", "--out", tmp_path / "web")
    assert done.code == 0
    folder = tmp_path / "web"
    assert stat.S_IMODE((folder / "key.pem").stat().st_mode) == 0o600
    leaf, issuing = x509.load_pem_x509_certificates((folder / "certificate.pem").read_bytes())
    assert leaf.issuer == issuing.subject
    assert leaf.public_key() == load_key(folder / "key.pem").public_key()
    assert (folder / "chain.pem").read_bytes() == issuing.public_bytes(Encoding.PEM)
    assert "openssl s_server" in done.out
    assert "curl --cacert" in done.out


def test_issue_replaces_a_key_only_on_request(fake: FakeCa, run: Run, tmp_path: Path) -> None:
    assert run("cert", "issue", "web.example.test", "--out", tmp_path / "web").code == 0
    key = (tmp_path / "web/key.pem").read_bytes()
    refused = run("cert", "issue", "web.example.test", "--out", tmp_path / "web")
    assert refused.code == 2
    assert "cert renew" in refused.err
    assert (tmp_path / "web/key.pem").read_bytes() == key
    assert run("cert", "issue", "web.example.test", "--out", tmp_path / "web", "--force").code == 0
    assert (tmp_path / "web/key.pem").read_bytes() != key


def test_a_refused_issue_leaves_no_files(fake: FakeCa, run: Run, tmp_path: Path) -> None:
    fake.script("SignCertificate", errors.NameRefused("the name is reserved"))
    done = run("cert", "issue", "ca.svc.example.test", "--out", tmp_path / "web")
    assert done.code == 1
    assert "NAME_REFUSED" in done.err
    assert not (tmp_path / "web").exists()


@pytest.mark.parametrize("form", ["pem", "der", "-"])
def test_sign_takes_pem_der_and_standard_input(
    fake: FakeCa, run: Run, tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    der = make_csr(make_key(), [Name.dns("web.example.test")])
    pem = x509.load_der_x509_csr(der).public_bytes(Encoding.PEM)
    source: object = tmp_path / "r.csr"
    if form == "-":
        source = "-"
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(pem)))
    else:
        (tmp_path / "r.csr").write_bytes(pem if form == "pem" else der)
    done = run("cert", "sign", "--csr", source, "--profile", "server", "--out", tmp_path / "c.pem")
    assert done.code == 0
    assert [each.request.item.csr for each in fake.received] == [der]
    assert len(x509.load_pem_x509_certificates((tmp_path / "c.pem").read_bytes())) == 2


def test_sign_writes_to_standard_output_by_default(fake: FakeCa, run: Run, tmp_path: Path) -> None:
    (tmp_path / "r.csr").write_bytes(make_csr(make_key(), [Name.dns("web.example.test")]))
    done = run("cert", "sign", "--csr", tmp_path / "r.csr")
    assert done.out.startswith("-----BEGIN CERTIFICATE-----")
    told = run("cert", "sign", "--csr", tmp_path / "r.csr", "--output", "json").document
    assert told["pem"].count("BEGIN CERTIFICATE") == 2
    assert len(told["serial"]) == 32


def test_requested_values_reach_the_service_as_they_were_typed(fake: FakeCa, run: Run, tmp_path: Path) -> None:
    (tmp_path / "r.csr").write_bytes(make_csr(make_key(), [Name.dns("web.example.test")]))
    run(
        "cert",
        "sign",
        "--csr",
        tmp_path / "r.csr",
        "--san",
        "b.example.test",
        "--lifetime",
        "30d",
        "--authority",
        "estate-2",
    )
    item = fake.received[0].request.item
    assert [(name.type, name.value) for name in item.names] == [(pb.NAME_TYPE_DNS, "b.example.test")]
    assert item.lifetime.seconds == 30 * 86_400
    assert item.authority == "authorities/estate-2"


@pytest.mark.parametrize(
    ("raised", "code"),
    [
        (errors.NameRefused("no"), 1),
        (errors.NoActiveAuthority("no"), 1),
        (errors.PeerCertificateExpired("no"), 4),
        (errors.ProfileNotAllowed("no"), 4),
    ],
)
def test_each_kind_of_refusal_has_its_exit_code_and_json_form(
    fake: FakeCa, run: Run, tmp_path: Path, raised: errors.KeyreeveError, code: int
) -> None:
    (tmp_path / "r.csr").write_bytes(make_csr(make_key(), [Name.dns("web.example.test")]))
    fake.answer("SignCertificate", raised)
    done = run("cert", "sign", "--csr", tmp_path / "r.csr", "--output", "json")
    assert done.code == code
    assert done.out == ""
    assert done.error["reason"] == raised.reason
    assert done.error["fix"] == raised.fix


def test_a_service_that_is_not_there_is_not_reachable(run: Run, tmp_path: Path, fake: FakeCa) -> None:
    fake.context.save(tmp_path / "elsewhere.json")
    text = (tmp_path / "elsewhere.json").read_text()
    (tmp_path / "elsewhere.json").write_text(text.replace(fake.context.endpoint("ca"), "127.0.0.1:1"))
    (tmp_path / "r.csr").write_bytes(make_csr(make_key(), [Name.dns("web.example.test")]))
    done = run("cert", "sign", "--csr", tmp_path / "r.csr", "--context", tmp_path / "elsewhere.json")
    assert done.code == 3
    assert "SERVICE_UNREACHABLE" in done.err


def test_a_missing_file_is_wrong_usage_and_says_which(run: Run, fake: FakeCa, tmp_path: Path) -> None:
    done = run("cert", "sign", "--csr", tmp_path / "absent.csr")
    assert done.code == 2
    assert str(tmp_path / "absent.csr") in done.err
    assert "Traceback" not in done.err


def test_a_lifetime_without_a_unit_is_wrong_usage(run: Run, fake: FakeCa, tmp_path: Path) -> None:
    done = run("cert", "issue", "web.example.test", "--out", tmp_path / "web", "--lifetime", "30")
    assert done.code == 2
    assert "30d" in done.err


def test_verify_accepts_the_name_it_was_issued_for_and_no_other(fake: FakeCa, run: Run, tmp_path: Path) -> None:
    run("cert", "issue", "web.example.test", "--out", tmp_path / "web")
    file = tmp_path / "web/certificate.pem"
    # The fake's certificates are simpler than path validation demands of a server, which is what this looks at.
    refused = run("cert", "verify", file, "--for", "other.example.test")
    assert refused.code == 1
    assert "CERTIFICATE_UNTRUSTED" in refused.err


def test_verify_judges_a_server_as_a_server_and_names_the_ca_that_is_missing(
    fake: FakeCa, run: Run, tmp_path: Path
) -> None:
    assert run("cert", "issue", "web.example.test", "--out", tmp_path / "web").code == 0
    whole = tmp_path / "web/certificate.pem"
    assert run("cert", "verify", whole).code == 0, "without --for it is no client certificate for that"
    end = "-----END CERTIFICATE-----\n"
    (tmp_path / "leaf.pem").write_text(whole.read_text().partition(end)[0] + end)
    alone = run("cert", "verify", tmp_path / "leaf.pem")
    assert alone.code == 1
    assert "the CA 'CN=estate issuing', which has signed it or its chain" in alone.err


def test_inspect_says_what_a_file_without_certificates_holds(fake: FakeCa, run: Run, tmp_path: Path) -> None:
    assert run("cert", "issue", "web.example.test", "--out", tmp_path / "web").code == 0
    done = run("cert", "inspect", tmp_path / "web/key.pem")
    assert done.code == 0
    assert "private key" in done.out
    assert len(done.out.splitlines()) == 2, "what kind it is and how large, and nothing of it"


def test_inspect_shows_no_empty_lines_of_names(fake: FakeCa, run: Run, tmp_path: Path) -> None:
    done = run("cert", "inspect", fake.context.estate_bundle)
    assert done.code == 0
    assert not [line for line in done.out.splitlines() if line.startswith("names")]
    assert run("cert", "inspect", fake.context.estate_bundle, "-o", "json").document[0]["names"] == []


def test_a_file_without_an_end_is_not_read_to_it(fake: FakeCa, run: Run) -> None:
    done = run("cert", "sign", "--csr", "/dev/zero")
    assert done.code == 2
    assert "larger than 1,000,000 bytes" in done.err


def test_renewing_what_is_not_there_says_so(fake: FakeCa, run: Run, tmp_path: Path) -> None:
    done = run("cert", "renew", tmp_path / "gone")
    assert done.code == 2
    assert f"{tmp_path / 'gone'} does not exist" in done.err


def test_verify_names_what_has_no_subject_and_keeps_the_library_out_of_it(
    fake: FakeCa, run: Run, tmp_path: Path
) -> None:
    assert run("cert", "issue", "web.example.test", "--out", tmp_path / "web").code == 0
    good = run("cert", "verify", tmp_path / "web/certificate.pem", "--for", "web.example.test")
    assert "path: dns:web.example.test <- CN=estate issuing" in good.out, good.err
    root = run("cert", "verify", fake.context.estate_bundle)
    assert root.code == 1
    assert "<Certificate" not in root.err
    assert "encountered" not in root.err


def test_inspect_prints_the_contents_of_a_certificate(fake: FakeCa, run: Run, tmp_path: Path) -> None:
    run("cert", "issue", "web.example.test", "--out", tmp_path / "web")
    leaf, issuing = run("cert", "inspect", tmp_path / "web/certificate.pem", "-o", "json").document
    assert leaf["names"] == ["dns:web.example.test"]
    assert leaf["key"] == "ECDSA secp256r1"
    assert leaf["usages"] == ["serverAuth"]
    assert issuing["ca"] is True
    told = subprocess.run(
        ["openssl", "x509", "-in", str(tmp_path / "web/certificate.pem"), "-noout", "-fingerprint", "-sha256"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert told.partition("=")[2].strip().replace(":", "").lower() == leaf["sha256"]


def test_list_passes_its_filters_on_and_stops_at_the_limit(fake: FakeCa, run: Run) -> None:
    rows = [pb.Certificate(name=f"certificates/{n:032x}", identity=f"{n}.example.test") for n in range(5)]
    for row in rows:
        row.state = pb.CERTIFICATE_STATE_VALID
    fake.answer("ListCertificates", pb.ListCertificatesResponse(certificates=rows[::-1], next_page_token="more"))
    done = run("cert", "list", "--profile", "server", "--state", "valid", "--limit", "3", "--quiet")
    assert done.out.split() == [f"{n:032x}" for n in (4, 3, 2)], "the newest"
    request = fake.received[0].request
    assert (request.profile, request.state) == ("profiles/server", pb.CERTIFICATE_STATE_VALID)
    assert request.newest_first
    assert len(fake.received) == 1, "no page more than needed"


def test_renew_replaces_key_and_certificate_of_a_directory(fake: FakeCa, run: Run, tmp_path: Path) -> None:
    run("cert", "issue", "web.example.test", "--out", tmp_path / "web")
    before = (tmp_path / "web/key.pem").read_bytes()
    assert run("cert", "renew", tmp_path / "web").code == 0
    assert (tmp_path / "web/key.pem").read_bytes() != before
    _assert_pair(tmp_path / "web")
    assert sorted(path.name for path in (tmp_path / "web").iterdir()) == ["certificate.pem", "chain.pem", "key.pem"]


def test_a_renewal_whose_answer_was_lost_asks_again_with_the_same_key(fake: FakeCa, run: Run, tmp_path: Path) -> None:
    run("cert", "issue", "web.example.test", "--out", tmp_path / "web")
    fake.script("RenewCertificate", errors.NoActiveAuthority("later"))
    assert run("cert", "renew", tmp_path / "web").code == 1
    _assert_pair(tmp_path / "web")
    assert run("cert", "renew", tmp_path / "web").code == 0
    _assert_pair(tmp_path / "web")
    asked = [each.request.csr for each in fake.received if each.method.endswith("RenewCertificate")]
    assert len({_spki(csr) for csr in asked}) == 1


@pytest.mark.parametrize("moved", [0, 1, 2, 3])
def test_a_renewal_that_crashed_between_two_files_is_finished_without_the_service(
    fake: FakeCa, run: Run, tmp_path: Path, moved: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("cert", "issue", "web.example.test", "--out", tmp_path / "web", "--form", "combined")
    moves = 0
    whole = renewing.replace_keeping

    def crash(path: Path, data: bytes, *, private: bool = False) -> None:
        nonlocal moves
        if moves == moved:
            raise errors.FileUnusable("the machine lost its power")
        moves += 1
        whole(path, data, private=private)

    with monkeypatch.context() as patched:
        patched.setattr(renewing, "replace_keeping", crash)
        assert run("cert", "renew", tmp_path / "web").code == 2
    calls = len(fake.received)
    done = run("cert", "renew", tmp_path / "web")
    assert done.code == 0
    assert "completed" in done.out
    assert len(fake.received) == calls
    _assert_pair(tmp_path / "web")
    leaf = (tmp_path / "web/certificate.pem").read_text().partition("-----END")[0]
    assert (tmp_path / "web/combined.pem").read_text().startswith(leaf)


def test_your_serving_certificate_is_renewed_without_naming_it(fake: FakeCa, run: Run) -> None:
    before = fake.context.certificate.read_bytes()
    assert run("cert", "renew").code == 0
    assert fake.context.certificate.read_bytes() != before
    assert stat.S_IMODE(fake.context.key.stat().st_mode) == 0o600


@pytest.mark.parametrize("key_type", list(KeyType))
def test_a_renewed_key_is_of_the_old_ones_type(key_type: KeyType) -> None:
    if not key_type.value.startswith("rsa4096"):  # slow to make, and no other branch than 2048 and 3072
        assert renewing.same_type(make_key(key_type)) is key_type


def _assert_pair(folder: Path) -> None:
    leaf = x509.load_pem_x509_certificates((folder / "certificate.pem").read_bytes())[0]
    assert leaf.public_key() == load_key(folder / "key.pem").public_key()


def _spki(csr: bytes) -> Any:
    return x509.load_der_x509_csr(csr).public_key().public_numbers()  # type: ignore[union-attr]


def test_a_list_that_is_cut_says_so(fake: FakeCa, run: Run) -> None:
    fake.answer("ListOperations", operation_pb.ListOperationsResponse(operations=[OPERATION] * 3))
    cut = run("operation", "list", "--limit", "2", "-q")
    assert len(cut.out.split()) == 2
    assert "only the newest 2" in cut.err
    assert run("operation", "list", "--limit", "3").err == ""
