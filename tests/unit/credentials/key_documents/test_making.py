"""Requests, self-signed certificates and signed requests."""

import subprocess
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from keyreeve.errors import FieldInvalid, KeyFileUnsuitable
from keyreeve_credentials.key_documents.attributes import NO_NAMES, Attributes, general_names
from keyreeve_credentials.key_documents.contents import load_certificates, load_private_key, load_request
from keyreeve_credentials.key_documents.making import KeyChoice, create_request, create_self_signed, sign_request
from keyreeve_credentials.key_files.file_names import parse_basename, parse_file_name, restorable_name

from .conftest import NOW, Files, terms


def test_a_request_has_the_attributes_in_the_order_of_a_directory() -> None:
    attributes = Attributes(
        "core.example.test",
        "Ops",
        "Example Ltd",
        "Leeds",
        "Yorkshire",
        "GB",
        "ops@example.test",
        ("core.example.test",),
    )
    request = load_request(create_request(attributes, KeyChoice.P256).document_pem)
    assert request.is_signature_valid
    assert request.subject.rfc4514_string() == (
        "1.2.840.113549.1.9.1=ops@example.test,CN=core.example.test,OU=Ops,O=Example Ltd,L=Leeds,ST=Yorkshire,C=GB"
    )
    names = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert list(names) == [x509.DNSName("core.example.test")]


def test_the_key_of_a_request_is_rsa_2048_by_the_usual_choice() -> None:
    key = load_private_key(create_request(Attributes("a.example.test"), KeyChoice.RSA_2048).key_pem)
    assert isinstance(key, rsa.RSAPrivateKey)
    assert key.key_size == 2048


def test_openssl_accepts_a_request(files: Files, tmp_path: Path) -> None:
    (tmp_path / "a.csr").write_bytes(files.request)
    run = subprocess.run(
        ["openssl", "req", "-in", tmp_path / "a.csr", "-noout", "-verify", "-text"], capture_output=True, check=True
    )
    assert b"DNS:core1.example.test, IP Address:10.0.0.1, email:ops@example.test" in run.stdout


def test_alternative_names_are_told_apart_by_their_looks() -> None:
    made = general_names(["*.example.test", "::1", "a@example.test"])
    assert [type(name).__name__ for name in made] == ["DNSName", "IPAddress", "RFC822Name"]


def test_alternative_names_without_the_common_name_are_a_warning() -> None:
    made = create_request(Attributes("core1.example.test", names=("core2.example.test",)), KeyChoice.P256)
    assert made.warnings == ("the subject alternative names do not contain the common name core1.example.test",)
    assert create_request(Attributes("Core.example.test", names=("core.example.test",)), KeyChoice.P256).warnings == ()


def test_a_request_without_alternative_names_is_a_warning() -> None:
    assert create_request(Attributes("postgres"), KeyChoice.P256).warnings == (NO_NAMES,)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"common_name": ""}, "common_name"),
        ({"common_name": "x" * 65}, "common_name"),
        ({"common_name": "a\nb"}, "common_name"),
        ({"organization": " Example"}, "organization"),
        ({"country": "gb"}, "country"),
        ({"country": "GBR"}, "country"),
        ({"email_address": "nobody"}, "email_address"),
        ({"names": ("a..b",)}, "names[0]"),
        ({"names": ("a.test", "two words")}, "names[1]"),
        ({"names": ("999.1.1.1",)}, "names[0]"),
        ({"names": ("a.test", "A.test")}, "names"),
        ({"names": ("https://a.test/",)}, "names[0]"),
    ],
)
def test_an_attribute_outside_its_grammar_is_refused(change: dict[str, object], field: str) -> None:
    with pytest.raises(FieldInvalid) as refused:
        create_request(replace(Attributes("a.example.test"), **change), KeyChoice.P256)
    assert refused.value.violations[0].field == field


def test_a_self_signed_certificate_verifies_itself_and_may_sign(files: Files) -> None:
    certificate = load_certificates(files.ca)[0]
    certificate.verify_directly_issued_by(certificate)
    assert certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    assert usage.key_cert_sign
    assert usage.digital_signature


def test_a_lifetime_of_no_days_is_refused() -> None:
    with pytest.raises(FieldInvalid):
        create_self_signed(Attributes("a.example.test"), KeyChoice.P256, terms(0))


def test_a_signed_request_keeps_subject_and_names_and_is_for_servers_and_clients(files: Files) -> None:
    certificate, request = load_certificates(files.certificate)[0], load_request(files.request)
    certificate.verify_directly_issued_by(load_certificates(files.ca)[0])
    assert certificate.subject == request.subject
    names = x509.SubjectAlternativeName
    assert certificate.extensions.get_extension_for_class(names) == request.extensions.get_extension_for_class(names)
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert [one._name for one in usage] == ["serverAuth", "clientAuth"]
    assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert certificate.not_valid_after_utc == NOW + timedelta(days=30)


def test_a_certificate_does_not_outlive_its_issuer(files: Files) -> None:
    issuer, key = load_certificates(files.ca)[0], load_private_key(files.ca_key)
    signed = load_certificates(sign_request(load_request(files.request), issuer, key, terms(5000)))[0]
    assert signed.not_valid_after_utc == issuer.not_valid_after_utc


def test_requested_extensions_other_than_names_are_not_copied(files: Files) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    builder = x509.CertificateSigningRequestBuilder(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "a")]))
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    request = builder.sign(key, hashes.SHA256())
    signed = sign_request(request, load_certificates(files.ca)[0], load_private_key(files.ca_key), terms())
    certificate = load_certificates(signed)[0]
    assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


def requests_to_refuse() -> dict[str, bytes]:
    def made(key: object, *names: x509.GeneralName, common_name: str = "a") -> bytes:
        attributes = [x509.NameAttribute(x509.NameOID.COMMON_NAME, common_name)] if common_name else []
        builder = x509.CertificateSigningRequestBuilder(x509.Name(attributes))
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)

    good = ec.generate_private_key(ec.SECP256R1())
    forged = bytearray(made(good))
    forged[-4] ^= 1
    return {
        "not signed by its own key": bytes(forged),
        "names that are not": made(good, x509.UniformResourceIdentifier("spiffe://td/admin")),
        "no subject": made(good, common_name=""),
        "RSA 1024": made(rsa.generate_private_key(65537, 1024)),
    }


@pytest.mark.parametrize("problem", ["not signed by its own key", "names that are not", "no subject", "RSA 1024"])
def test_a_request_that_should_not_be_signed_is_refused(problem: str, files: Files) -> None:
    request = load_request(requests_to_refuse()[problem])
    with pytest.raises(KeyFileUnsuitable, match=problem):
        sign_request(request, load_certificates(files.ca)[0], load_private_key(files.ca_key), terms())


def test_a_certificate_that_is_not_a_cas_does_not_sign(files: Files) -> None:
    entity, key = load_certificates(files.certificate)[0], load_private_key(files.key)
    with pytest.raises(KeyFileUnsuitable, match="not a CA's"):
        sign_request(load_request(files.request), entity, key, terms())


def test_a_key_of_another_ca_does_not_sign(files: Files) -> None:
    with pytest.raises(KeyFileUnsuitable, match="do not match"):
        sign_request(load_request(files.request), load_certificates(files.ca)[0], load_private_key(files.key), terms())


def test_an_expired_ca_does_not_sign(files: Files) -> None:
    later = terms(now=NOW + timedelta(days=2000))
    with pytest.raises(KeyFileUnsuitable, match="not valid now"):
        sign_request(load_request(files.request), load_certificates(files.ca)[0], load_private_key(files.ca_key), later)


@pytest.mark.parametrize("name", ["", "a.b", "a/b", "..", "a b", "ü", "a" * 65, "a\n"])
def test_a_basename_has_letters_digits_hyphens_and_underscores(name: str) -> None:
    with pytest.raises(FieldInvalid):
        parse_basename(name)


@pytest.mark.parametrize("name", ["", ".key", "a.", "a..b", "../a", "a/b", "a\0", "a\n"])
def test_a_file_name_is_one_name_of_a_flat_space(name: str) -> None:
    with pytest.raises(FieldInvalid):
        parse_file_name(name)


def test_good_names_are_kept() -> None:
    assert parse_basename("web_1-a") == "web_1-a"
    assert parse_file_name("web.full.crt") == "web.full.crt"
    assert parse_file_name(restorable_name("web.key", 12)) == "web-replaced-12.key"


def test_what_was_made_does_not_print_its_key() -> None:
    assert "PRIVATE" not in repr(create_request(Attributes("a.example.test"), KeyChoice.P256))
