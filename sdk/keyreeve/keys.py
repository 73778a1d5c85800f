"""Private keys and CSRs on the holder's side."""

import hashlib
import ipaddress
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, assert_never

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.x509.oid import NameOID

from keyreeve.common_values import KeyType, Name, NameType
from keyreeve.errors import CsrMalformed, KeyTypeRefused, NameRefused, Violation
from keyreeve.files import PRIVATE, PUBLIC, write_atomically
from keyreeve.length_prefix import length_prefixed

if TYPE_CHECKING:
    from keyreeve.values import SignedCertificate

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey
"""The types of keys that this module makes and loads."""

_RSA_BITS = {KeyType.RSA2048: 2048, KeyType.RSA3072: 3072, KeyType.RSA4096: 4096}
_RENEWAL_CONTEXT = b"keyreeve-renew-1"


def make_key(key_type: KeyType = KeyType.P256) -> PrivateKey:
    """Make a private key. P-256 suits most uses."""
    match key_type:
        case KeyType.P256:
            return ec.generate_private_key(ec.SECP256R1())
        case KeyType.P384:
            return ec.generate_private_key(ec.SECP384R1())
        case KeyType.ED25519:
            return ed25519.Ed25519PrivateKey.generate()
        case KeyType.RSA2048 | KeyType.RSA3072 | KeyType.RSA4096:
            return rsa.generate_private_key(public_exponent=65537, key_size=_RSA_BITS[key_type])
    assert_never(key_type)


def make_csr(key: PrivateKey, names: Sequence[Name] = (), *, common_name: str | None = None) -> bytes:
    """Make a DER certificate request (PKCS #10, RFC 2986), signed by `key`.

    `names` become subject alternative names; without any the request has no such extension. Raises
    `keyreeve.errors.NameRefused` for text that a certificate cannot contain; the CA checks what the profile allows.
    """
    subject = x509.Name([] if common_name is None else [x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    if names:
        general = x509.SubjectAlternativeName([_general_name(index, name) for index, name in enumerate(names)])
        # With an empty subject the extension has to be critical (RFC 5280, 4.2.1.6).
        builder = builder.add_extension(general, critical=common_name is None)
    return builder.sign(key, _digest(key)).public_bytes(serialization.Encoding.DER)


def save_key(path: str | os.PathLike[str], key: PrivateKey) -> None:
    """Write a key atomically as unencrypted PKCS #8 PEM, of mode 0600.

    Raises `OSError`.
    """
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    write_atomically(Path(path), pem, PRIVATE)


def load_key(path: str | os.PathLike[str]) -> PrivateKey:
    """Read a PEM private key.

    Raises `OSError`; `ValueError` when the file contains no unencrypted PEM key; `keyreeve.errors.KeyTypeRefused` for a
    type of key that `make_key` does not make.
    """
    return parse_key(Path(path).read_bytes())


def parse_key(pem: bytes) -> PrivateKey:
    """Read a PEM private key from bytes; raises as `load_key` does."""
    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except TypeError:
        raise ValueError("the private key is encrypted") from None
    if not isinstance(key, PrivateKey):
        raise KeyTypeRefused(f"{type(key).__name__} is not a supported type of key")
    return key


def save_certificate(path: str | os.PathLike[str], certificate: "SignedCertificate") -> None:
    """Write the certificate, then its chain without the root, atomically.

    When a key is replaced together with its certificate, write the key first: `RotatingChannel` uses neither until the
    two belong together. Raises `OSError`.
    """
    write_atomically(Path(path), certificate.pem().encode(), PUBLIC)


def load_certificates(path: str | os.PathLike[str]) -> list[bytes]:
    """Read the certificates of a PEM file as DER, in order.

    Raises `OSError`; `ValueError` when there is none.
    """
    certificates = x509.load_pem_x509_certificates(Path(path).read_bytes())
    return [certificate.public_bytes(serialization.Encoding.DER) for certificate in certificates]


def csr_spki(csr: bytes) -> bytes:
    """Return the DER SubjectPublicKeyInfo of a CSR in DER or PEM.

    Raises `keyreeve.errors.CsrMalformed`.
    """
    try:
        is_pem = csr.lstrip().startswith(b"-----BEGIN")
        request = x509.load_pem_x509_csr(csr) if is_pem else x509.load_der_x509_csr(csr)
        return request.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    except ValueError as failure:
        raise CsrMalformed(f"the certificate request cannot be read: {failure}") from None


def renewal_message(*, trust_domain: str, serial: bytes, new_spki: bytes, nonce: str) -> bytes:
    """Encode the message that the old key signs for a renewal (docs/protocols.md)."""
    fields = (_RENEWAL_CONTEXT, trust_domain.encode(), serial, hashlib.sha256(new_spki).digest(), nonce.encode())
    return length_prefixed(*fields)


def sign_renewal(old_key: PrivateKey, *, trust_domain: str, serial: bytes, new_spki: bytes, nonce: str) -> bytes:
    """Sign a renewal with the old key (docs/protocols.md).

    `serial` is 16 octets, `new_spki` a DER SubjectPublicKeyInfo.
    """
    message = renewal_message(trust_domain=trust_domain, serial=serial, new_spki=new_spki, nonce=nonce)
    match old_key:
        case ec.EllipticCurvePrivateKey():
            return old_key.sign(message, ec.ECDSA(_curve_hash(old_key)))
        case rsa.RSAPrivateKey():
            return old_key.sign(message, padding.PKCS1v15(), hashes.SHA256())
        case ed25519.Ed25519PrivateKey():
            return old_key.sign(message)
    assert_never(old_key)


def _digest(key: PrivateKey) -> hashes.SHA256 | hashes.SHA384 | None:
    match key:
        case ec.EllipticCurvePrivateKey():
            return _curve_hash(key)
        case ed25519.Ed25519PrivateKey():
            return None
        case _:
            return hashes.SHA256()


def _curve_hash(key: ec.EllipticCurvePrivateKey) -> hashes.SHA256 | hashes.SHA384:
    return hashes.SHA384() if isinstance(key.curve, ec.SECP384R1) else hashes.SHA256()


def _general_name(index: int, name: Name) -> x509.GeneralName:
    try:
        match name.type:
            case NameType.DNS:
                return x509.DNSName(name.value)
            case NameType.IP:
                return x509.IPAddress(ipaddress.ip_address(name.value))
            case NameType.URI:
                return x509.UniformResourceIdentifier(name.value)
            case NameType.EMAIL:
                return x509.RFC822Name(name.value)
    except ValueError as failure:
        raise NameRefused(
            f"{name.value!r} cannot be a name of type {name.type}: {failure}",
            violations=[Violation(f"names[{index}]", str(failure))],
        ) from None
    assert_never(name.type)
