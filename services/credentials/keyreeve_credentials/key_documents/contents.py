"""What a file contains: keys, certificates, requests, bundles, PKCS#12, in PEM or DER."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes, PublicKeyTypes

from keyreeve.errors import KeyFileUnreadable
from keyreeve.plaintext import Plaintext

MOST_BYTES = 1 << 20
"""Of one file."""
_BLOCK = re.compile(rb"-----BEGIN ([A-Z0-9 ]{1,40})-----[ \t]*\r?\n.*?-----END \1-----", re.DOTALL)
_PRIVATE = {b"PRIVATE KEY", b"RSA PRIVATE KEY", b"EC PRIVATE KEY", b"ENCRYPTED PRIVATE KEY"}
_PKCS12 = re.compile(rb"\x30(\x80|[\x81-\x84].{1,4}?|[\x00-\x7f])\x02\x01\x03\x30", re.DOTALL)
_ENCRYPTED_PKCS8 = re.compile(rb"\x30[\x81-\x84]?.{1,4}?\x30.{1,2}?\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x05", re.DOTALL)
_SSH = re.compile(rb"(ssh-(rsa|ed25519)|ecdsa-sha2-nistp\d+) [A-Za-z0-9+/=]+")


class Kind(StrEnum):
    """Kind of an element of a file."""

    PRIVATE_KEY = "private key"
    LOCKED_KEY = "private key locked with a passphrase"
    PUBLIC_KEY = "public key"
    CERTIFICATE = "certificate"
    REQUEST = "certificate signing request"
    CRL = "certificate revocation list"
    PKCS12 = "PKCS#12"
    UNKNOWN = "unknown"


_PUBLIC_KINDS = {Kind.PUBLIC_KEY, Kind.CERTIFICATE, Kind.REQUEST, Kind.CRL}


class Encoding(StrEnum):
    """Encoding of an element."""

    PEM = "PEM"
    DER = "DER"
    TEXT = "text"


@dataclass(frozen=True, slots=True)
class Element:
    """One element, without anything secret."""

    kind: Kind
    encoding: Encoding
    key_type: str = ""
    """Such as `RSA 2048`; empty where the key cannot be read."""
    spki_sha256: bytes = b""
    """Of the public key; what matches has the same."""
    subject: str = ""
    issuer: str = ""
    serial: str = ""
    not_before: datetime | None = None
    not_after: datetime | None = None
    names: tuple[str, ...] = ()
    is_ca: bool = False
    sha256: bytes = b""
    """Fingerprint of a certificate."""


def inspect_file(data: bytes) -> list[Element]:
    """Tell what a file contains, in its order. Never raises: what cannot be read is of the kind `unknown`."""
    blocks = list(_BLOCK.finditer(data))
    if blocks:
        return [_element(found[0], found[1]) for found in blocks]
    if _SSH.match(data):
        try:
            key = serialization.load_ssh_public_key(data)
        except (ValueError, UnsupportedAlgorithm):
            return [Element(Kind.UNKNOWN, Encoding.TEXT)]
        return [_of_key(Kind.PUBLIC_KEY, Encoding.TEXT, key)]
    return [_der_element(data)]


def holds_private_key(data: bytes) -> bool:
    """Whether reading a file reveals a private key, locked or not."""
    return any(e.kind in {Kind.PRIVATE_KEY, Kind.LOCKED_KEY, Kind.PKCS12} for e in inspect_file(data))


def is_public(data: bytes) -> bool:
    """Whether a file contains nothing but what may be published; what cannot be read, or is beside PEM blocks, may not."""
    blocks = _BLOCK.search(data) is not None
    return not (blocks and _BLOCK.sub(b"", data).strip()) and all(e.kind in _PUBLIC_KINDS for e in inspect_file(data))


def load_private_key(data: bytes, passphrase: Plaintext | None = None) -> PrivateKeyTypes:
    """Load the private key of a file. Raises `KeyFileUnreadable`, `ValueError` for a wrong passphrase."""
    password = None if passphrase is None else passphrase.reveal()
    pem = next((found[0] for found in _BLOCK.finditer(data) if found[1] in _PRIVATE), None)
    load: Callable[..., PrivateKeyTypes] = serialization.load_der_private_key
    if pem is not None:
        load = serialization.load_pem_private_key
    try:
        return load(data if pem is None else pem + b"\n", password)
    except TypeError:
        if password is None:
            raise KeyFileUnreadable("the key is locked with a passphrase: unlock it first") from None
        return load(data if pem is None else pem + b"\n", None)  # it was not locked
    except UnsupportedAlgorithm as failure:
        raise KeyFileUnreadable(f"the key cannot be read: {failure}") from None
    except ValueError:
        if password is None:
            raise KeyFileUnreadable("the file contains no private key that can be read") from None
        raise


def load_certificates(data: bytes) -> list[x509.Certificate]:
    """Load the certificates of a file, in its order. Raises `KeyFileUnreadable` when there is none."""
    pems = [found[0] for found in _BLOCK.finditer(data) if found[1] in {b"CERTIFICATE", b"X509 CERTIFICATE"}]
    try:
        if pems:
            return [x509.load_pem_x509_certificate(pem + b"\n") for pem in pems]
        return [x509.load_der_x509_certificate(data)]
    except ValueError:
        raise KeyFileUnreadable("the file contains no certificate that can be read") from None


def load_request(data: bytes) -> x509.CertificateSigningRequest:
    """Load a request. Raises `KeyFileUnreadable`."""
    try:
        if b"-----BEGIN" in data:
            return x509.load_pem_x509_csr(data)
        return x509.load_der_x509_csr(data)
    except ValueError:
        raise KeyFileUnreadable("the file contains no certificate signing request that can be read") from None


def spki(key: PublicKeyTypes) -> bytes:
    """Encode a public key as SubjectPublicKeyInfo."""
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def _sha256(data: bytes) -> bytes:
    digest = hashes.Hash(hashes.SHA256())
    digest.update(data)
    return digest.finalize()


def key_type(key: object) -> str:
    """Name a key's type and size."""
    match key:
        case rsa.RSAPrivateKey() | rsa.RSAPublicKey():
            return f"RSA {key.key_size}"
        case ec.EllipticCurvePrivateKey() | ec.EllipticCurvePublicKey():
            return f"EC {key.curve.name}"
        case ed25519.Ed25519PrivateKey() | ed25519.Ed25519PublicKey():
            return "Ed25519"
        case ed448.Ed448PrivateKey() | ed448.Ed448PublicKey():
            return "Ed448"
    return "other"


def name_texts(names: x509.SubjectAlternativeName) -> Iterator[str]:
    """The subject alternative names as texts with their types."""
    for name in names:
        match name:
            case x509.DNSName() | x509.RFC822Name() | x509.UniformResourceIdentifier():
                prefix = {x509.DNSName: "dns", x509.RFC822Name: "email"}.get(type(name), "uri")
                yield f"{prefix}:{name.value}"
            case x509.IPAddress():
                yield f"ip:{name.value}"
            case _:
                yield "other"


def alternative_names(of: x509.Certificate | x509.CertificateSigningRequest) -> x509.SubjectAlternativeName | None:
    """Return the extension subjectAltName. Raises `ValueError` for extensions that cannot be parsed."""
    try:
        return of.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return None


def is_ca(certificate: x509.Certificate) -> bool:
    """Whether a certificate may issue others, by its basic constraints. Raises `ValueError` as above."""
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False


def _element(pem: bytes, label: bytes) -> Element:
    block, encoding = pem + b"\n", Encoding.PEM
    if label == b"ENCRYPTED PRIVATE KEY" or (label in _PRIVATE and b"ENCRYPTED" in block.partition(b"\n\n")[0][:200]):
        return Element(Kind.LOCKED_KEY, encoding)
    readers: dict[bytes, Callable[[], Element]] = {
        b"CERTIFICATE": lambda: _of_certificate(encoding, x509.load_pem_x509_certificate(block)),
        b"X509 CERTIFICATE": lambda: _of_certificate(encoding, x509.load_pem_x509_certificate(block)),
        b"CERTIFICATE REQUEST": lambda: _of_request(encoding, x509.load_pem_x509_csr(block)),
        b"NEW CERTIFICATE REQUEST": lambda: _of_request(encoding, x509.load_pem_x509_csr(block)),
        b"PUBLIC KEY": lambda: _of_key(Kind.PUBLIC_KEY, encoding, serialization.load_pem_public_key(block)),
        b"X509 CRL": lambda: _of_crl(encoding, x509.load_pem_x509_crl(block)),
    }
    for private in _PRIVATE:
        readers[private] = lambda: _of_private_key(encoding, serialization.load_pem_private_key(block, None))
    reader = readers.get(label)
    return Element(Kind.UNKNOWN, encoding) if reader is None else (_try(reader) or Element(Kind.UNKNOWN, encoding))


def _der_element(data: bytes) -> Element:
    encoding = Encoding.DER
    if _PKCS12.match(data):
        return Element(Kind.PKCS12, encoding)
    readers: tuple[Callable[[], Element], ...] = (
        lambda: _of_certificate(encoding, x509.load_der_x509_certificate(data)),
        lambda: _of_request(encoding, x509.load_der_x509_csr(data)),
        lambda: _of_private_key(encoding, serialization.load_der_private_key(data, None)),
        lambda: _of_key(Kind.PUBLIC_KEY, encoding, serialization.load_der_public_key(data)),
        lambda: _of_crl(encoding, x509.load_der_x509_crl(data)),
    )
    for reader in readers:
        if (found := _try(reader)) is not None:
            return found
    return Element(Kind.LOCKED_KEY if _ENCRYPTED_PKCS8.match(data) else Kind.UNKNOWN, encoding)


def _try(reader: Callable[[], Element]) -> Element | None:
    try:
        return reader()
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return None


def _of_private_key(encoding: Encoding, key: PrivateKeyTypes) -> Element:
    return _of_key(Kind.PRIVATE_KEY, encoding, key.public_key())


def _of_key(kind: Kind, encoding: Encoding, key: PublicKeyTypes) -> Element:
    return Element(kind, encoding, key_type(key), _sha256(spki(key)))


def _of_crl(encoding: Encoding, crl: x509.CertificateRevocationList) -> Element:
    return Element(
        Kind.CRL,
        encoding,
        issuer=crl.issuer.rfc4514_string(),
        not_before=crl.last_update_utc,
        not_after=crl.next_update_utc,
    )


def _of_request(encoding: Encoding, request: x509.CertificateSigningRequest) -> Element:
    names = alternative_names(request)
    return Element(
        Kind.REQUEST,
        encoding,
        key_type(request.public_key()),
        _sha256(spki(request.public_key())),
        request.subject.rfc4514_string(),
        names=() if names is None else tuple(name_texts(names)),
    )


def _of_certificate(encoding: Encoding, certificate: x509.Certificate) -> Element:
    names = alternative_names(certificate)
    return Element(
        Kind.CERTIFICATE,
        encoding,
        key_type(certificate.public_key()),
        _sha256(spki(certificate.public_key())),
        certificate.subject.rfc4514_string(),
        certificate.issuer.rfc4514_string(),
        f"{certificate.serial_number:x}",
        certificate.not_valid_before_utc,
        certificate.not_valid_after_utc,
        () if names is None else tuple(name_texts(names)),
        is_ca(certificate),
        certificate.fingerprint(hashes.SHA256()),
    )
