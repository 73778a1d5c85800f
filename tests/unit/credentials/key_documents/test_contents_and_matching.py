"""Inspecting files, and finding out whether they belong together."""

import subprocess
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from hypothesis import given
from hypothesis import strategies as st

from keyreeve.errors import KeyFileUnreadable
from keyreeve_credentials.key_documents.contents import (
    Encoding,
    Kind,
    holds_private_key,
    inspect_file,
    is_public,
    load_certificates,
    load_private_key,
)
from keyreeve_credentials.key_documents.matching import bundle_warnings, key_matches, ordered, verify_file

from .conftest import NOW, Files

Chain = tuple[bytes, bytes, bytes, bytes]


def openssl(*arguments: str, data: bytes = b"") -> bytes:
    return subprocess.run(["openssl", *arguments], input=data, capture_output=True, check=True).stdout


def test_a_certificate_is_inspected(files: Files) -> None:
    (found,) = inspect_file(files.certificate)
    assert found.kind is Kind.CERTIFICATE
    assert found.subject == "CN=core1.example.test"
    assert found.issuer == "CN=Database CA"
    assert found.names == ("dns:core1.example.test", "ip:10.0.0.1", "email:ops@example.test")
    assert found.not_after == NOW + timedelta(days=30)
    assert found.key_type == "EC secp256r1"
    assert not found.is_ca


def test_a_key_a_request_and_a_certificate_of_one_key_have_one_digest(files: Files) -> None:
    found = [inspect_file(data)[0] for data in (files.key, files.request, files.certificate)]
    assert [one.kind for one in found] == [Kind.PRIVATE_KEY, Kind.REQUEST, Kind.CERTIFICATE]
    assert len({one.spki_sha256 for one in found}) == 1


def test_each_element_of_a_bundle_is_inspected(chain: Chain) -> None:
    found = inspect_file(b"".join(chain[1:]))
    assert [one.subject for one in found] == ["CN=Entity", "CN=Middle", "CN=Root"]
    assert [one.is_ca for one in found] == [False, True, True]


def test_der_is_inspected_too(files: Files) -> None:
    certificate = load_certificates(files.certificate)[0].public_bytes(serialization.Encoding.DER)
    key = load_private_key(files.key).private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    for data, kind in ((certificate, Kind.CERTIFICATE), (key, Kind.PRIVATE_KEY)):
        assert [(one.kind, one.encoding) for one in inspect_file(data)] == [(kind, Encoding.DER)]


def test_locked_keys_pkcs12_and_public_keys_are_recognized(files: Files) -> None:
    pem = openssl("pkcs8", "-topk8", "-passout", "pass:x", data=files.key)
    der = openssl("pkcs8", "-topk8", "-outform", "DER", "-passout", "pass:x", data=files.key)
    traditional = openssl("pkey", "-traditional", "-aes128", "-passout", "pass:x", data=files.key)
    for locked in (pem, der, traditional):
        assert [one.kind for one in inspect_file(locked)] == [Kind.LOCKED_KEY]
        assert holds_private_key(locked)
    p12 = openssl("pkcs12", "-export", "-passout", "pass:x", data=files.key + files.certificate)
    assert [one.kind for one in inspect_file(p12)] == [Kind.PKCS12]
    assert holds_private_key(p12)
    public = openssl("pkey", "-pubout", data=files.key)
    assert [one.kind for one in inspect_file(public)] == [Kind.PUBLIC_KEY]
    assert not holds_private_key(public)


@pytest.mark.parametrize(
    "spoil", [(b"KEY-----\n", b"KEY----- \n"), (b"-----BEGIN PRIVATE", b"----BEGIN PRIVATE"), (b"-----END", b"END")]
)
def test_a_file_with_anything_beside_public_elements_is_not_public(spoil: tuple[bytes, bytes], files: Files) -> None:
    assert is_public(files.certificate)
    assert is_public(b"\n" + files.certificate + b"\r\n\n" + files.request)
    for key in (files.key, files.key.replace(*spoil)):
        for contents in (files.certificate + key, key + files.certificate):
            assert not is_public(contents)
    assert not is_public(b"passphrase: s3cret\n" + files.certificate)


def test_an_ssh_public_key_is_recognized(files: Files) -> None:
    line = (
        load_private_key(files.key)
        .public_key()
        .public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    )
    assert [(one.kind, one.encoding) for one in inspect_file(line)] == [(Kind.PUBLIC_KEY, Encoding.TEXT)]


@given(st.binary(max_size=300))
def test_any_bytes_can_be_inspected(data: bytes) -> None:
    assert inspect_file(data)
    assert inspect_file(b"-----BEGIN CERTIFICATE-----\n" + data + b"\n-----END CERTIFICATE-----\n")


@pytest.mark.parametrize("read", [load_private_key, load_certificates])
def test_other_contents_are_refused(read: object) -> None:
    for data in (b"", b"hello", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"):
        with pytest.raises(KeyFileUnreadable):
            read(data)


def test_a_key_matches_its_certificate_alone(files: Files) -> None:
    assert key_matches(files.key, files.certificate)
    assert not key_matches(files.ca_key, files.certificate)
    assert key_matches(files.key, files.certificate + files.ca)


def test_a_locked_key_has_to_be_unlocked_before_it_is_matched(files: Files) -> None:
    locked = openssl("pkcs8", "-topk8", "-passout", "pass:x", data=files.key)
    with pytest.raises(KeyFileUnreadable, match="unlock"):
        key_matches(locked, files.certificate)


def test_a_bundle_asserts_a_certificate(chain: Chain) -> None:
    _, entity, middle, root = chain
    result = verify_file(entity, middle + root, None, NOW)
    assert result.verified
    assert result.chain == ("CN=Entity", "CN=Middle", "CN=Root")
    assert result.warnings == ()
    assert verify_file(entity, middle, root, NOW).verified
    assert verify_file(entity + middle + root, root, None, NOW).verified


def test_a_bundle_without_the_intermediate_or_the_root_does_not_assert_it(chain: Chain) -> None:
    _, entity, middle, root = chain
    assert verify_file(entity, root, None, NOW).problems[0] == "no certificate of the bundle has issued CN=Entity"
    assert verify_file(entity, middle, None, NOW).problems[0] == "no certificate of the bundle has issued CN=Middle"
    assert not verify_file(entity + middle + root, middle, None, NOW).verified


def test_a_certificate_of_another_ca_is_not_verified(chain: Chain, files: Files) -> None:
    assert not verify_file(files.certificate, chain[2] + chain[3], None, NOW).verified
    assert verify_file(files.certificate, files.ca, None, NOW).verified


def test_expired_certificates_are_not_verified(chain: Chain) -> None:
    _, entity, middle, root = chain
    late = verify_file(entity, middle + root, None, NOW + timedelta(days=4000))
    assert not late.verified
    assert [problem.split(" expired")[0] for problem in late.problems] == ["CN=Entity", "CN=Middle", "CN=Root"]
    early = verify_file(entity, middle + root, None, NOW - timedelta(days=4000))
    assert "not valid before" in early.problems[0]


def test_the_order_of_a_bundle_is_entity_intermediates_root(chain: Chain) -> None:
    _, entity, middle, root = chain
    assert bundle_warnings(entity + middle + root) == []
    assert bundle_warnings(middle + root) == []
    wrong = verify_file(entity, root + middle, None, NOW)
    assert wrong.verified
    assert wrong.warnings == ("the certificates are not in order: entity, intermediates, root",)


@pytest.mark.parametrize("end", [b"", b"\n\n", b"\r\n\r\n"])
def test_a_bundle_ends_in_exactly_one_newline(end: bytes, chain: Chain) -> None:
    assert bundle_warnings(chain[3].rstrip() + end) == ["the file does not end in exactly one newline"]
    assert bundle_warnings(chain[3].rstrip() + b"\r\n") == []


def test_certificates_are_put_in_order(chain: Chain) -> None:
    entity, middle, root = (x509.load_pem_x509_certificate(pem) for pem in chain[1:])
    assert ordered([entity, root, middle]) == [entity, middle, root]
    assert ordered([]) == []
