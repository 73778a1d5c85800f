"""Output forms, and renewal in the form that the files have, against a fake CA."""

import errno
import os
import shlex
import stat
import struct
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import typer
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
    load_pem_private_key,
    pkcs12,
)

from keyreeve import errors
from keyreeve.cli.certificates.kept_files import replace_keeping
from keyreeve.cli.certificates.renewal_commands import keep_renewed
from keyreeve.cli.certificates.renewing import Pair, due_at
from keyreeve.keys import load_key, make_csr, make_key, save_key
from keyreeve.request_container import outer_tags
from support.command_line import Run
from support.fake_ca_server import FakeCa
from support.waiting import wait_for


@pytest.fixture
def web(fake: FakeCa, run: Run, tmp_path: Path) -> Path:
    """A directory of `cert issue`."""
    assert run("cert", "issue", "web.example.test", "--out", tmp_path / "web").code == 0
    return tmp_path / "web"


def belongs(certificate: x509.Certificate, key: object) -> bool:
    return certificate.public_key() == key.public_key()  # type: ignore[attr-defined]


def test_issue_writes_the_forms_that_programs_want(fake: FakeCa, run: Run, tmp_path: Path) -> None:
    (tmp_path / "password").write_text("sesame\n")
    forms = ["combined", "pkcs12", "pkcs8", "fullchain", "leaf", "root", "der"]
    options = [each for form in forms for each in ("--form", form)]
    done = run("cert", "issue", "a.test", "--out", tmp_path / "a", *options, "--password-file", tmp_path / "password")
    assert done.code == 0, done.err
    folder = tmp_path / "a"
    key = load_key(folder / "key.pem")
    bundle = pkcs12.load_pkcs12((folder / "bundle.p12").read_bytes(), b"sesame")
    assert bundle.cert is not None
    assert belongs(bundle.cert.certificate, key)
    assert len(bundle.additional_certs) == 1
    encrypted = (folder / "key-encrypted.pem").read_bytes()
    assert load_pem_private_key(encrypted, b"sesame").public_key() == key.public_key()  # type: ignore[comparison-overlap]
    combined = (folder / "combined.pem").read_bytes()
    assert belongs(x509.load_pem_x509_certificate(combined), load_pem_private_key(combined, None))
    assert x509.load_der_x509_certificate((folder / "certificate.der").read_bytes()) == bundle.cert.certificate
    [root] = x509.load_pem_x509_certificates((folder / "root.pem").read_bytes())
    assert root.issuer == root.subject
    for name in ("bundle.p12", "key-encrypted.pem", "combined.pem"):
        assert stat.S_IMODE((folder / name).stat().st_mode) == 0o600


def test_a_form_that_lacks_its_password_or_key_is_refused_before_the_call(
    fake: FakeCa, run: Run, tmp_path: Path
) -> None:
    assert run("cert", "issue", "a.test", "--out", tmp_path / "a", "--form", "pkcs12").code == 2
    assert not (tmp_path / "a").exists()
    (tmp_path / "r").write_bytes(b"")
    assert run("cert", "sign", "--csr", tmp_path / "r", "--form", "combined").code == 2
    assert fake.received == []


def test_export_writes_a_form_of_what_is_here(fake: FakeCa, run: Run, web: Path, tmp_path: Path) -> None:
    calls = len(fake.received)
    (tmp_path / "password").write_text("sesame")
    out = tmp_path / "web.p12"
    done = run("cert", "export", web, "--form", "pkcs12", "--out", out, "--password-file", tmp_path / "password")
    assert done.code == 0, done.err
    assert pkcs12.load_pkcs12(out.read_bytes(), b"sesame").key is not None
    assert run("cert", "export", web / "certificate.pem", "--form", "root", "--out", tmp_path / "root.pem").code == 0
    refused = run("cert", "export", web / "certificate.pem", "--form", "combined", "--out", tmp_path / "c")
    assert refused.code == 2
    assert not (tmp_path / "c").exists()
    assert len(fake.received) == calls


def test_one_combined_file_is_renewed_with_its_key_mode_link_and_other_objects(
    run: Run, web: Path, tmp_path: Path
) -> None:
    parameters = "-----BEGIN DH PARAMETERS-----\nMAYCAQcCAQI=\n-----END DH PARAMETERS-----\n"
    site = tmp_path / "site.pem"
    site.write_text((web / "certificate.pem").read_text() + (web / "key.pem").read_text() + parameters)
    site.chmod(0o640)
    link = tmp_path / "link.pem"
    link.symlink_to(site)
    before = site.read_bytes()
    for arguments in ((link,), (link, "--key", link)):
        assert run("cert", "renew", *arguments).code == 0
        after = site.read_bytes()
        assert after != before
        before = after
        assert link.is_symlink()
        assert stat.S_IMODE(site.stat().st_mode) == 0o640
        certificates = x509.load_pem_x509_certificates(after)
        assert len(certificates) == 2
        assert belongs(certificates[0], load_pem_private_key(after, None))
        assert after.count(b"PRIVATE KEY-----\n") == 2
        assert parameters in after.decode()
        assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(("site", "link"))) == [
            "link.pem",
            "site.pem",
        ]


def test_a_combined_renewal_that_crashed_is_repeated_with_the_same_key(
    fake: FakeCa, run: Run, web: Path, tmp_path: Path
) -> None:
    site = tmp_path / "site.pem"
    site.write_text((web / "certificate.pem").read_text() + (web / "key.pem").read_text())
    before = site.read_bytes()
    fake.script("RenewCertificate", errors.NoActiveAuthority("later"))
    assert run("cert", "renew", site).code == 1
    assert site.read_bytes() == before
    assert run("cert", "renew", site).code == 0
    asked = [each.request.csr for each in fake.received if each.method.endswith("RenewCertificate")]
    keys = [x509.load_der_x509_csr(csr).public_key() for csr in asked]
    assert keys[0] == keys[1]
    assert belongs(x509.load_pem_x509_certificate(site.read_bytes()), load_pem_private_key(site.read_bytes(), None))


def asn1_tags(der: bytes) -> bytes:
    """The tags of the first two members of a private key: 02 30 is PKCS #8, 02 04 SEC 1, 30 04 an encrypted PKCS #8."""
    return outer_tags(der)[:2]


@pytest.mark.parametrize(
    ("form", "password", "tags"),
    [
        (PrivateFormat.TraditionalOpenSSL, None, b"\x02\x04"),
        (PrivateFormat.PKCS8, None, b"\x02\x30"),
        (PrivateFormat.PKCS8, b"sesame", b"\x30\x04"),
    ],
    ids=["SEC 1", "PKCS #8", "encrypted PKCS #8"],
)
def test_files_in_der_stay_der_in_the_same_form(
    fake: FakeCa, run: Run, web: Path, tmp_path: Path, *, form: PrivateFormat, password: bytes | None, tags: bytes
) -> None:
    certificate, key, secret = tmp_path / "c.der", tmp_path / "k.der", tmp_path / "password"
    secret.write_text("sesame\n")
    certificate.write_bytes(
        x509.load_pem_x509_certificate((web / "certificate.pem").read_bytes()).public_bytes(Encoding.DER)
    )
    encryption = NoEncryption() if password is None else BestAvailableEncryption(password)
    key.write_bytes(load_key(web / "key.pem").private_bytes(Encoding.DER, form, encryption))
    fake.script("RenewCertificate", errors.NoActiveAuthority("later"))
    arguments = ("cert", "renew", certificate, "--key", key, "--password-file", secret)
    assert run(*arguments).code == 1
    assert asn1_tags((tmp_path / "k.der.next").read_bytes()) == tags, "what waits for its certificate too"
    assert run(*arguments).code == 0
    assert asn1_tags(key.read_bytes()) == tags
    assert belongs(
        x509.load_der_x509_certificate(certificate.read_bytes()), load_der_private_key(key.read_bytes(), password)
    )
    assert not (tmp_path / "k.der.next").exists()


def test_a_key_beside_the_certificate_and_in_a_file_of_its_own_is_renewed_in_both(
    fake: FakeCa, run: Run, web: Path, tmp_path: Path
) -> None:
    site, key = tmp_path / "site.pem", web / "key.pem"
    parameters = "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"
    site.write_text((web / "certificate.pem").read_text() + key.read_text())
    site.chmod(0o640)
    key.write_text(parameters + key.read_text())
    assert run("cert", "renew", site, "--key", key).code == 0
    new = load_key(key)
    assert belongs(x509.load_pem_x509_certificate(site.read_bytes()), new)
    assert load_pem_private_key(site.read_bytes(), None).public_key() == new.public_key()  # type: ignore[comparison-overlap]
    assert stat.S_IMODE(site.stat().st_mode) == 0o640
    assert key.read_text().startswith(parameters)
    before, calls = site.read_bytes(), len(fake.received)
    save_key(tmp_path / "other.pem", make_key())
    site.write_text(before.decode().partition("-----BEGIN PRIVATE")[0] + (tmp_path / "other.pem").read_text())
    refused = run("cert", "renew", site, "--key", key)
    assert refused.code == 2
    assert "the key of another certificate" in refused.err
    assert len(fake.received) == calls


def test_a_hard_linked_file_is_written_whole_or_stays_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, real = tmp_path / "key.pem", os.pwrite
    file.write_bytes(b"old" * 100)
    (tmp_path / "link.pem").hardlink_to(file)

    def short(descriptor: int, data: bytes, at: int) -> int:
        return real(descriptor, data[:50], at)

    monkeypatch.setattr(os, "pwrite", short)
    replace_keeping(file, b"new" * 90)
    assert file.read_bytes() == b"new" * 90
    is_full = [False, True]

    def full(descriptor: int, data: bytes, at: int) -> int:
        if is_full and is_full.pop(0):
            raise OSError(errno.ENOSPC, "No space left on device")
        return short(descriptor, data, at)

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(errors.FileUnusable, match="No space left"):
        replace_keeping(file, b"even newer" * 90)
    assert file.read_bytes() == b"new" * 90


def test_an_encrypted_key_stays_encrypted_and_needs_its_password(
    fake: FakeCa, run: Run, web: Path, tmp_path: Path
) -> None:
    key = web / "key.pem"
    key.write_bytes(load_key(key).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"sesame")))
    (tmp_path / "password").write_text("sesame\n")
    calls = len(fake.received)
    assert run("cert", "renew", web).code == 2
    assert len(fake.received) == calls
    assert run("cert", "renew", web, "--password-file", tmp_path / "password").code == 0
    new = load_pem_private_key(key.read_bytes(), b"sesame")
    assert belongs(x509.load_pem_x509_certificate((web / "certificate.pem").read_bytes()), new)


def test_every_form_in_the_directory_is_renewed(fake: FakeCa, run: Run, tmp_path: Path) -> None:
    (tmp_path / "password").write_text("sesame")
    with_password = ("--password-file", tmp_path / "password")
    forms = ("--form", "combined", "--form", "pkcs12", "--form", "der")
    assert run("cert", "issue", "a.test", "--out", tmp_path / "a", *forms, *with_password).code == 0
    assert run("cert", "renew", tmp_path / "a").code == 2, "the password of the PKCS #12 file is missing"
    assert run("cert", "renew", tmp_path / "a", *with_password).code == 0
    leaf = x509.load_pem_x509_certificate((tmp_path / "a/certificate.pem").read_bytes())
    bundle = pkcs12.load_pkcs12((tmp_path / "a/bundle.p12").read_bytes(), b"sesame")
    assert bundle.cert is not None
    assert bundle.cert.certificate == leaf
    assert bundle.cert.friendly_name == b"a.test"
    assert x509.load_pem_x509_certificate((tmp_path / "a/combined.pem").read_bytes()) == leaf
    assert (tmp_path / "a/certificate.der").read_bytes() == leaf.public_bytes(Encoding.DER)


def test_hard_links_links_and_modes_of_all_files_stay(run: Run, web: Path, tmp_path: Path) -> None:
    names = ("key.pem", "certificate.pem", "chain.pem")
    for name in names:
        (tmp_path / name).hardlink_to(web / name)
        (web / name).chmod(0o640)
    (web / "chain.pem").rename(tmp_path / "chain-elsewhere.pem")
    (web / "chain.pem").symlink_to(tmp_path / "chain-elsewhere.pem")
    before = {name: (web / name).read_bytes() for name in names}
    assert run("cert", "renew", web).code == 0
    for name in names:
        assert (tmp_path / name).samefile(web / name)
        assert stat.S_IMODE((web / name).stat().st_mode) == 0o640
    assert (web / "chain.pem").is_symlink()
    assert (web / "key.pem").read_bytes() != before["key.pem"]
    assert belongs(
        x509.load_pem_x509_certificate((tmp_path / "certificate.pem").read_bytes()), load_key(tmp_path / "key.pem")
    )


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files to another user")
def test_owner_and_group_stay(run: Run, web: Path) -> None:
    for name in ("key.pem", "certificate.pem"):
        os.chown(web / name, 65534, 65534)
    assert run("cert", "renew", web).code == 0
    assert {(path.stat().st_uid, path.stat().st_gid) for path in (web / "key.pem", web / "certificate.pem")} == {
        (65534, 65534)
    }


ACL = "system.posix_acl_access"


def acl(user: int, permissions: int) -> bytes:
    """An ACL of mode 0640 (linux/posix_acl_xattr.h) that lets one more user in."""
    nobody = 0xFFFFFFFF
    entries = ((1, 6, nobody), (2, permissions, user), (4, 4, nobody), (0x10, 4, nobody), (0x20, 0, nobody))
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


def test_access_control_lists_stay_and_none_comes_from_the_directory(run: Run, web: Path) -> None:
    key, certificate = web / "key.pem", web / "certificate.pem"
    try:
        os.setxattr(key, ACL, acl(65534, 4))
    except OSError as problem:
        pytest.skip(f"the file system has no ACLs: {problem.strerror}")
    os.setxattr(web, "system.posix_acl_default", acl(65533, 4))
    before = key.read_bytes()
    assert run("cert", "renew", web).code == 0
    assert key.read_bytes() != before
    assert os.getxattr(key, ACL) == acl(65534, 4)
    assert stat.S_IMODE(key.stat().st_mode) == 0o640
    assert ACL not in os.listxattr(certificate)


def test_only_if_due_does_nothing_before_and_then_runs_only_after_a_renewal(
    fake: FakeCa, run: Run, web: Path, tmp_path: Path
) -> None:
    mark = tmp_path / "then; touch never"
    command = shlex.join([sys.executable, "-c", "import sys; open(sys.argv[1], 'a').write('x')", str(mark)])
    calls = len(fake.received)
    done = run("cert", "renew", web, "--only-if-due", "--then", command)
    assert done.code == 0
    assert "not due" in done.out
    assert len(fake.received) == calls
    assert not mark.exists()
    assert run("cert", "renew", web, "--then", command).code == 0
    assert mark.read_text() == "x"
    failed = run("cert", "renew", web, "--then", "/nonexistent/program")
    assert failed.code == 1
    assert "renewed" in failed.err


@pytest.mark.parametrize(("minutes", "after"), [(1, 40), (30, 20 * 60), (60 * 24, 16 * 3600)])
def test_a_certificate_is_due_after_two_thirds_of_the_time_since_its_issuance(
    tmp_path: Path, minutes: int, after: int
) -> None:
    """Validity begins five minutes before issuance: a certificate of minutes would be renewed at every look."""
    issued, key = datetime.now(UTC).replace(microsecond=0), make_key()
    name = x509.Name([])
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), serial_number=0x100)
        .not_valid_before(issued - timedelta(minutes=5))
        .not_valid_after(issued + timedelta(minutes=minutes))
        .sign(key, hashes.SHA256())
    )
    place = tmp_path / "certificate.pem"
    place.write_bytes(certificate.public_bytes(Encoding.PEM))
    due = due_at(Pair(place, tmp_path / "key.pem", None, is_own=False))
    assert abs((due - issued).total_seconds() - after) < 1


def test_the_daemon_renews_with_the_password_of_its_places_and_ends_when_told(
    fake: FakeCa, run: Run, web: Path, tmp_path: Path
) -> None:
    """The process itself: it completes a renewal that was interrupted, for which it needs the password of the key."""
    (tmp_path / "password").write_text("sesame\n")
    key, new = web / "key.pem", make_key()
    sealed = BestAvailableEncryption(b"sesame")
    key.write_bytes(load_key(key).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, sealed))
    (web / "key.pem.next").write_bytes(new.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, sealed))
    (tmp_path / "r.csr").write_bytes(make_csr(new))
    assert run("cert", "sign", "--csr", tmp_path / "r.csr", "--out", web / "certificate.pem.next").code == 0
    then = shlex.join(["touch", str(tmp_path / "renewed")])
    daemon = subprocess.Popen(
        [
            *(sys.executable, "-m", "keyreeve.cli", "renew-daemon", str(web)),
            *("--then", then, "--password-file", str(tmp_path / "password")),
        ],
        stdout=subprocess.PIPE,
    )
    try:
        wait_for("the command after the renewal", (tmp_path / "renewed").exists)
        assert belongs(
            x509.load_pem_x509_certificate((web / "certificate.pem").read_bytes()),
            load_pem_private_key(key.read_bytes(), b"sesame"),
        )
        assert load_pem_private_key(key.read_bytes(), b"sesame").public_key() == new.public_key()  # type: ignore[comparison-overlap]
    finally:
        daemon.terminate()
        out, _ = daemon.communicate(timeout=30)
    assert daemon.returncode == 0
    assert b"has been completed" in out


def test_the_daemon_tries_again_what_fails_until_it_is_ended() -> None:
    tried: list[Path] = []
    spans: list[timedelta] = []

    def renew(place: Path) -> None:
        tried.append(place)
        if place.name == "a":
            raise errors.FileUnusable("gone")
        if place.name == "b":
            raise typer.BadParameter("no key")

    def wait(span: timedelta) -> bool:
        spans.append(span)
        return len(spans) == 2

    keep_renewed([Path("a"), Path("b"), Path("c")], renew, wait, timedelta(hours=1))
    assert [place.name for place in tried] == ["a", "b", "c"] * 2
    assert spans == [timedelta(hours=1)] * 2
