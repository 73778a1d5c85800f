"""Containers of requests: what surrounds a request has no effect, and a file that is none is named for what it is."""

import base64
import json
from datetime import UTC, datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    pkcs7,
    pkcs12,
)
from cryptography.x509.oid import NameOID

from keyreeve.errors import CsrMalformed
from keyreeve.keys import make_csr
from keyreeve.request_container import is_private_key, request_der
from keyreeve.values import Name
from support.rsa_keys import shared_rsa_key

KEY = ec.derive_private_key(11, ec.SECP256R1())
DER = make_csr(KEY, [Name.dns("web.example.test")])
PEM = x509.load_der_x509_csr(DER).public_bytes(Encoding.PEM)
NAME = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "web.example.test")])
START, END = datetime(2031, 1, 1, tzinfo=UTC), datetime(2031, 2, 1, tzinfo=UTC)
BODY = PEM.split(b"-----")[2]


def certificate() -> x509.Certificate:
    builder = x509.CertificateBuilder().subject_name(NAME).issuer_name(NAME).public_key(KEY.public_key())
    builder = builder.not_valid_before(START).not_valid_after(END).serial_number(5)
    return builder.sign(KEY, hashes.SHA256())


def crl() -> x509.CertificateRevocationList:
    builder = x509.CertificateRevocationListBuilder().issuer_name(NAME)
    return builder.last_update(START).next_update(END).sign(KEY, hashes.SHA256())


CERTIFICATE = certificate()


@pytest.mark.parametrize(
    "data",
    [
        DER,
        DER + b"\r\n",
        PEM,
        b"\xef\xbb\xbf" + PEM,
        b"Certificate Request:\n    Data:\n" + PEM + b"bye\n",
        b"Bag Attributes\n    friendlyName: web\nKey Attributes: <No Attributes>\n" + PEM,
        CERTIFICATE.public_bytes(Encoding.PEM) + PEM,
        PEM.replace(b"\n", b"  \t\r\n"),
        PEM.replace(b"\n", b"\r"),
        PEM.replace(b"\n", b" "),
        PEM.replace(b"\n", b""),
        PEM.replace(b"\n", b"\n\n"),
        PEM.replace(b"CERTIFICATE REQUEST", b"NEW CERTIFICATE REQUEST"),
        PEM.decode().encode("utf-16"),
        PEM.decode().encode("utf-16-le"),
        b"\xfe\xff" + PEM.decode().encode("utf-16-be"),
        BODY,
        BODY.replace(b"\n", b""),
        BODY + b"-----END CERTIFICATE REQUEST-----\n",
    ],
    ids=range(19),
)
def test_what_surrounds_a_request_has_no_effect(data: bytes) -> None:
    assert request_der(data) == DER
    assert not is_private_key(data)


def pem_of(key: object, form: PrivateFormat, password: bytes | None = None) -> bytes:
    encryption = NoEncryption() if password is None else BestAvailableEncryption(password)
    return key.private_bytes(Encoding.PEM, form, encryption)  # type: ignore[attr-defined]


RSA = shared_rsa_key(2048)
PRIVATE = [
    pem_of(KEY, PrivateFormat.PKCS8),
    pem_of(KEY, PrivateFormat.TraditionalOpenSSL),
    pem_of(KEY, PrivateFormat.OpenSSH),
    pem_of(KEY, PrivateFormat.PKCS8, b"secret"),
    pem_of(KEY, PrivateFormat.TraditionalOpenSSL, b"secret"),
    pem_of(RSA, PrivateFormat.TraditionalOpenSSL),
    pem_of(ed25519.Ed25519PrivateKey.generate(), PrivateFormat.PKCS8),
]
PRIVATE_DER = [
    base64.b64decode(b"".join(line for line in pem.splitlines() if not line.startswith(b"-----")))
    for pem in (PRIVATE[0], PRIVATE[1], PRIVATE[3], PRIVATE[5], PRIVATE[6])
] + [
    dsa.generate_private_key(1024).private_bytes(Encoding.DER, PrivateFormat.TraditionalOpenSSL, NoEncryption()),
    pkcs12.serialize_key_and_certificates(b"web", KEY, CERTIFICATE, None, BestAvailableEncryption(b"secret")),
]


@pytest.mark.parametrize("data", [*PRIVATE, *PRIVATE_DER], ids=range(len(PRIVATE) + len(PRIVATE_DER)))
def test_a_private_key_is_recognized_in_every_container(data: bytes) -> None:
    wrapped = [data, base64.encodebytes(data)] if data.startswith(b"0") else [data, data.decode().encode("utf-16")]
    for each in (*wrapped, *([b"hello\n" + data, PEM + data] if data.startswith(b"-") else [])):
        assert is_private_key(each)
        with pytest.raises(CsrMalformed, match="must never be sent") as refusal:
            request_der(each)
        assert refusal.value.message.isprintable()


JWK = {"kty": "EC", "crv": "P-256", "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU", "kid": "web"}
D = "jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI"


@pytest.mark.parametrize(
    "data",
    [
        b"PuTTY-User-Key-File-3: ssh-ed25519\r\nEncryption: none\r\n",
        b"---- BEGIN SSH2 ENCRYPTED PRIVATE KEY ----\nP2/56wAAA==\n---- END SSH2 ENCRYPTED PRIVATE KEY ----\n",
        b"\xfe\xed\xfe\xed\x00\x00\x00\x02\x00\x00\x00\x01",
        b"\xce\xce\xce\xce\x00\x00\x00\x02\x00\x00\x00\x01",
        json.dumps(JWK | {"d": D}).encode(),
        json.dumps({"keys": [{"d": D} | JWK]}, indent=1).encode(),
        json.dumps({"kty": "oct", "k": "AyM1SysPpbyDfgZld3umjw"}, separators=(",", ":")).encode(),
        f"kty: EC\nd: {D}\n".encode(),
    ],
    ids=["PuTTY", "SSH2", "JKS", "JCEKS", "JWK", "JWK set", "JWK of a secret", "JWK in YAML"],
)
def test_a_private_key_of_other_programs_is_recognized(data: bytes) -> None:
    for each in (data, *((b"\n" + data, PEM + data) if data.isascii() else (base64.encodebytes(data),))):
        assert is_private_key(each)
        with pytest.raises(CsrMalformed, match="must never be sent"):
            request_der(each)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_a_jwk_in_utf_16_is_recognized(encoding: str) -> None:
    private = json.dumps(JWK | {"d": D}).encode(encoding)
    assert is_private_key(private)
    with pytest.raises(CsrMalformed, match="must never be sent"):
        request_der(private)


def test_a_public_jwk_is_no_private_key() -> None:
    assert not is_private_key(json.dumps(JWK).encode())
    assert not is_private_key(json.dumps({"d": D, "keys": [1]}).encode())


def test_a_public_key_of_ssh2_is_no_private_key() -> None:
    assert not is_private_key(b"---- BEGIN SSH2 PUBLIC KEY ----\nAAAA\n---- END SSH2 PUBLIC KEY ----\n")


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", "empty"),
        (CERTIFICATE.public_bytes(Encoding.PEM), "a certificate"),
        (CERTIFICATE.public_bytes(Encoding.DER), "a certificate"),
        (crl().public_bytes(Encoding.PEM), "a certificate revocation list"),
        (crl().public_bytes(Encoding.DER), "a certificate revocation list"),
        (pkcs7.serialize_certificates([CERTIFICATE], Encoding.DER), "PKCS #7"),
        (pkcs7.serialize_certificates([CERTIFICATE], Encoding.PEM), "PKCS #7"),
        (KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo), "a public key"),
        (KEY.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo), "a public key"),
        (KEY.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH), "an SSH public key"),
        (b"PK\x03\x04....", "ZIP"),
        (b"<!DOCTYPE html><html></html>", "HTML"),
        (b"please sign this", "neither like DER"),
        (PEM + PEM, "more than one request"),
        (PEM.partition(b"-----END")[0], "no END line"),
        (PEM.replace(b"BEGIN CERTIFICATE", b"BEGIN NEW CERTIFICATE"), "different labels"),
        (BODY.replace(b"\n", b"", 1)[:-4], "base64 is broken"),
    ],
)
def test_a_file_that_is_no_request_is_named(data: bytes, told: str) -> None:
    assert not is_private_key(data)
    with pytest.raises(CsrMalformed, match=told) as refusal:
        request_der(data)
    assert refusal.value.message.isprintable()
