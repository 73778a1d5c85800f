"""Locked keys and PKCS#12, with openssl, Java's keytool and NSS's pk12util on the other side."""

import contextlib
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyreeve.errors import KeyFileUnreadable, KeyFileUnsuitable, PassphraseWrong
from keyreeve.plaintext import Plaintext
from keyreeve_credentials.key_documents import costs
from keyreeve_credentials.key_documents.containers import convert_pkcs12, export_pkcs12, unlock_key
from keyreeve_credentials.key_documents.costs import check_costs
from keyreeve_credentials.key_documents.matching import key_matches, verify_file
from support.programs import needs

from .conftest import NOW, Files

Chain = tuple[bytes, bytes, bytes, bytes]
PASSPHRASE = Plaintext.of("correct horse")
PBKDF2, SCRYPT = bytes.fromhex("06092a864886f70d01050c30"), bytes.fromhex("06092b06010401da47040b30")


def run(*command: object, data: bytes = b"") -> bytes:
    return subprocess.run([str(one) for one in command], input=data, capture_output=True, check=True).stdout


@pytest.mark.parametrize("cipher", ["-aes256", "-aes128", "-des3"])
def test_a_key_locked_in_the_traditional_form_is_unlocked(cipher: str, files: Files) -> None:
    for key in (files.key, files.ca_key):
        locked = run("openssl", "pkey", "-traditional", cipher, "-passout", "pass:correct horse", data=key)
        assert b"DEK-Info" in locked
        assert unlock_key(locked, PASSPHRASE) == key


@pytest.mark.parametrize(
    "options",
    [
        ["-v2", "aes-256-cbc", "-v2prf", "hmacWithSHA256"],
        ["-v2", "aes-128-cbc", "-v2prf", "hmacWithSHA1"],
        ["-v2", "des3"],
        ["-v1", "PBE-SHA1-3DES"],
        ["-scrypt"],
        ["-outform", "DER"],
    ],
)
def test_a_key_locked_as_pkcs8_is_unlocked(options: list[str], files: Files) -> None:
    locked = run("openssl", "pkcs8", "-topk8", *options, "-passout", "pass:correct horse", data=files.key)
    assert unlock_key(locked, PASSPHRASE) == files.key


@pytest.mark.parametrize("form", [("pkcs8", "-topk8"), ("pkey", "-traditional", "-aes256")])
def test_a_wrong_passphrase_is_told_apart_from_a_file_without_a_key(form: tuple[str, ...], files: Files) -> None:
    locked = run("openssl", *form, "-passout", "pass:another", data=files.key)
    with pytest.raises(PassphraseWrong):
        unlock_key(locked, PASSPHRASE)


def test_a_key_that_is_not_locked_stays_as_it_is(files: Files) -> None:
    assert unlock_key(files.key, PASSPHRASE) == files.key


@pytest.mark.parametrize("options", [[], ["-legacy"], ["-keypbe", "PBE-SHA1-3DES", "-certpbe", "PBE-SHA1-3DES"]])
def test_a_pkcs12_of_openssl_is_converted(options: list[str], chain: Chain) -> None:
    key, entity, middle, root = chain
    p12 = run(
        "openssl", "pkcs12", "-export", *options, "-passout", "pass:correct horse", data=key + entity + root + middle
    )
    contents = convert_pkcs12(p12, PASSPHRASE)
    assert contents.key_pem == key
    assert contents.certificate_pem == entity
    assert contents.bundle_pem == middle + root
    assert "PRIVATE" not in repr(contents)


def test_a_wrong_passphrase_does_not_convert_a_pkcs12(files: Files) -> None:
    p12 = run("openssl", "pkcs12", "-export", "-passout", "pass:another", data=files.key + files.certificate)
    with pytest.raises(PassphraseWrong):
        convert_pkcs12(p12, PASSPHRASE)


def test_a_pkcs12_without_a_key_is_refused(files: Files) -> None:
    p12 = run("openssl", "pkcs12", "-export", "-nokeys", "-passout", "pass:correct horse", data=files.ca)
    with pytest.raises(KeyFileUnsuitable, match="no private key"):
        convert_pkcs12(p12, PASSPHRASE)


@pytest.mark.parametrize("legacy", [False, True])
def test_openssl_opens_an_exported_pkcs12(legacy: bool, chain: Chain, tmp_path: Path) -> None:
    key, entity, middle, root = chain
    (tmp_path / "a.p12").write_bytes(export_pkcs12(key, entity, root + middle, PASSPHRASE, "web", legacy=legacy))
    out = run("openssl", "pkcs12", "-in", tmp_path / "a.p12", "-nodes", "-passin", "pass:correct horse")
    assert key_matches(out, entity)
    assert out.count(b"BEGIN CERTIFICATE") == 3
    info = subprocess.run(
        ["openssl", "pkcs12", "-in", tmp_path / "a.p12", "-info", "-noout", "-passin", "pass:correct horse"],
        capture_output=True,
        check=True,
    )
    assert (b"PBES2" in info.stderr) is not legacy


@needs("keytool")
@pytest.mark.parametrize("legacy", [False, True])
def test_keytool_opens_an_exported_pkcs12(legacy: bool, chain: Chain, tmp_path: Path) -> None:
    key, entity, middle, root = chain
    (tmp_path / "a.p12").write_bytes(export_pkcs12(key, entity, middle + root, PASSPHRASE, "web", legacy=legacy))
    listing = run("keytool", "-list", "-v", "-keystore", tmp_path / "a.p12", "-storepass", "correct horse")
    assert b"PrivateKeyEntry" in listing
    assert b"Certificate chain length: 3" in listing


@needs("keytool")
def test_a_pkcs12_of_keytool_is_converted(tmp_path: Path) -> None:
    name = ["-dname", "CN=java.example.test", "-alias", "a"]
    store = ["-keystore", tmp_path / "a.p12", "-storetype", "PKCS12", "-storepass", "correct horse"]
    run("keytool", "-genkeypair", "-keyalg", "RSA", "-keysize", "2048", "-validity", "30", *name, *store)
    contents = convert_pkcs12((tmp_path / "a.p12").read_bytes(), PASSPHRASE)
    assert key_matches(contents.key_pem, contents.certificate_pem)


@needs("pk12util", "certutil")
@pytest.mark.parametrize("legacy", [False, True])
def test_pk12util_opens_an_exported_pkcs12(legacy: bool, files: Files, tmp_path: Path) -> None:
    p12 = export_pkcs12(files.key, files.certificate, files.ca, PASSPHRASE, "web", legacy=legacy)
    (tmp_path / "a.p12").write_bytes(p12)
    run("certutil", "-N", "-d", tmp_path, "--empty-password")
    run("pk12util", "-i", tmp_path / "a.p12", "-d", tmp_path, "-W", "correct horse")
    assert b"web" in run("certutil", "-K", "-d", tmp_path)


@needs("pk12util", "certutil")
def test_a_pkcs12_of_pk12util_is_converted(files: Files, tmp_path: Path) -> None:
    p12 = export_pkcs12(files.key, files.certificate, files.ca, PASSPHRASE, "web", legacy=False)
    (tmp_path / "a.p12").write_bytes(p12)
    run("certutil", "-N", "-d", tmp_path, "--empty-password")
    run("pk12util", "-i", tmp_path / "a.p12", "-d", tmp_path, "-W", "correct horse")
    run("pk12util", "-o", tmp_path / "b.p12", "-n", "web", "-d", tmp_path, "-W", "correct horse", "-K", "")
    contents = convert_pkcs12((tmp_path / "b.p12").read_bytes(), PASSPHRASE)
    assert contents.key_pem == files.key
    assert verify_file(contents.certificate_pem, contents.bundle_pem, None, NOW).verified


def test_what_is_exported_here_is_converted_here(chain: Chain) -> None:
    key, entity, middle, root = chain
    contents = convert_pkcs12(export_pkcs12(key, entity, middle + root, PASSPHRASE, "web", legacy=False), PASSPHRASE)
    assert (contents.key_pem, contents.certificate_pem, contents.bundle_pem) == (key, entity, middle + root)


def test_a_key_and_a_certificate_that_do_not_match_are_not_exported(files: Files) -> None:
    with pytest.raises(KeyFileUnsuitable, match="do not match"):
        export_pkcs12(files.ca_key, files.certificate, None, PASSPHRASE, "web", legacy=False)


def test_a_pkcs12_without_a_passphrase_is_not_made(files: Files) -> None:
    with pytest.raises(KeyFileUnsuitable, match="passphrase"):
        export_pkcs12(files.key, files.certificate, None, Plaintext(b""), "web", legacy=False)


def test_bytes_that_are_no_pkcs12_are_refused() -> None:
    with pytest.raises((PassphraseWrong, KeyFileUnreadable)):
        convert_pkcs12(b"hello", PASSPHRASE)


@pytest.mark.parametrize(
    "options",
    [
        ["pkcs8", "-topk8", "-v2", "aes-256-cbc", "-iter", "4097"],
        ["pkcs8", "-topk8", "-v1", "PBE-SHA1-3DES", "-iter", "4097"],
        ["pkcs8", "-topk8", "-v1", "PBE-MD5-DES", "-iter", "4097", "-provider", "legacy", "-provider", "default"],
        ["pkcs8", "-topk8", "-v2", "aes-256-cbc", "-iter", "4097", "-outform", "DER"],
    ],
)
def test_a_key_whose_passphrase_takes_too_much_work_is_refused_before_any_is_done(
    options: list[str], files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    locked = run("openssl", *options, "-passout", "pass:correct horse", data=files.key)
    check_costs(locked)
    monkeypatch.setattr(costs, "MOST_ITERATIONS", 4096)
    with pytest.raises(KeyFileUnreadable, match="4097 iterations"):
        unlock_key(locked, PASSPHRASE)


def test_a_key_whose_passphrase_takes_too_much_memory_is_refused(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    options = ["-scrypt", "-scrypt_N", "1024", "-scrypt_r", "8", "-scrypt_p", "1"]
    locked = run("openssl", "pkcs8", "-topk8", *options, "-passout", "pass:correct horse", data=files.key)
    check_costs(locked)
    monkeypatch.setattr(costs, "MOST_SCRYPT_BYTES", 1 << 19)
    with pytest.raises(KeyFileUnreadable, match="memory"):
        unlock_key(locked, PASSPHRASE)


@pytest.mark.parametrize("of_mac_alone", [False, True])
def test_a_pkcs12_whose_passphrase_takes_too_much_work_is_refused(
    of_mac_alone: bool, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    contents = files.key + files.certificate
    p12 = run("openssl", "pkcs12", "-export", "-iter", "4097", "-passout", "pass:correct horse", data=contents)
    check_costs(p12)
    iterations = b"\x02\x02\x10\x01"
    assert p12.endswith(iterations)
    if of_mac_alone:
        p12 = p12[:-4].replace(iterations, b"\x02\x02\x00\x01") + iterations
    monkeypatch.setattr(costs, "MOST_ITERATIONS", 4096)
    with pytest.raises(KeyFileUnreadable, match="MAC takes" if of_mac_alone else "4097 iterations"):
        convert_pkcs12(p12, PASSPHRASE)


@given(st.binary(max_size=200), st.sampled_from([b"", PBKDF2, SCRYPT]))
def test_the_costs_of_any_bytes_can_be_checked(data: bytes, beginning: bytes) -> None:
    with contextlib.suppress(KeyFileUnreadable):
        check_costs(beginning + data)
