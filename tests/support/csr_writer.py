"""Writes certificate requests byte by byte, valid or not, with the same keys in every run (except RSA)."""

import base64
from functools import cache

from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from support.der_writer import bit_string, integer, oid, sequence, tlv
from support.rsa_keys import shared_rsa_key

NULL = b"\x05\x00"
ECDSA_SHA256 = sequence(oid("1.2.840.10045.4.3.2"))
RSA_SHA256 = sequence(oid("1.2.840.113549.1.1.11"), NULL)
ED25519 = sequence(oid("1.3.101.112"))
GOOD_NAME = b"web.example.test"


@cache
def ec_key(secret: int = 7) -> ec.EllipticCurvePrivateKey:
    return ec.derive_private_key(secret, ec.SECP256R1())


@cache
def rsa_key() -> rsa.RSAPrivateKey:
    return shared_rsa_key(2048)


def spki_of(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def dns(name: bytes) -> bytes:
    return tlv(0x82, name)


def uri(name: bytes) -> bytes:
    return tlv(0x86, name)


def email(name: bytes) -> bytes:
    return tlv(0x81, name)


def ip(octets: bytes) -> bytes:
    return tlv(0x87, octets)


def attribute(kind: str, text: bytes, tag: int = 0x0C) -> bytes:
    """A relative distinguished name with one attribute; default: UTF8String."""
    return tlv(0x31, sequence(oid(kind), tlv(tag, text)))


def cn(text: bytes, tag: int = 0x0C) -> bytes:
    return attribute("2.5.4.3", text, tag)


def extension(kind: str, value: bytes, critical: bytes = b"") -> bytes:
    return sequence(oid(kind), critical, tlv(0x04, value))


def san(*names: bytes) -> bytes:
    return extension("2.5.29.17", sequence(*names))


def extension_request(*extensions: bytes) -> bytes:
    return sequence(oid("1.2.840.113549.1.9.14"), tlv(0x31, sequence(*extensions)))


def info(
    *,
    subject: bytes = b"",
    spki: bytes | None = None,
    attributes: bytes | None = None,
    extensions: tuple[bytes, ...] | None = None,
    version: bytes = b"\x02\x01\x00",
) -> bytes:
    """A CertificationRequestInfo; valid by default."""
    if attributes is None:
        attributes = extension_request(*(extensions or (san(dns(GOOD_NAME)),)))
    return sequence(version, sequence(subject), spki or spki_of(ec_key()), tlv(0xA0, attributes))


def signed(content: bytes, key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | None = None) -> bytes:
    """A request with a valid signature."""
    key = key or ec_key()
    if isinstance(key, rsa.RSAPrivateKey):
        return sequence(content, RSA_SHA256, bit_string(key.sign(content, padding.PKCS1v15(), SHA256())))
    signature = key.sign(content, ec.ECDSA(SHA256(), deterministic_signing=True))
    return sequence(content, ECDSA_SHA256, bit_string(signature))


def unsigned(content: bytes, algorithm: bytes = RSA_SHA256, size: int = 256) -> bytes:
    """A request with an invalid signature."""
    return sequence(content, algorithm, bit_string(b"\x5a" * size))


def good_csr() -> bytes:
    """The valid request that most of the corpus differs from in one place."""
    return signed(info(subject=cn(GOOD_NAME)))


def pem(der: bytes, label: str = "CERTIFICATE REQUEST") -> bytes:
    text = base64.b64encode(der).decode()
    lines = [text[at : at + 64] for at in range(0, len(text), 64)]
    return "\n".join((f"-----BEGIN {label}-----", *lines, f"-----END {label}-----", "")).encode()


def rsa_spki(modulus: int, exponent: int = 65537) -> bytes:
    key = sequence(integer(modulus), integer(exponent))
    return sequence(sequence(oid("1.2.840.113549.1.1.1"), NULL), bit_string(key))


def ec_spki(curve: str, point: bytes) -> bytes:
    return sequence(sequence(oid("1.2.840.10045.2.1"), oid(curve)), bit_string(point))


def modulus_without_small_factors(bits: int) -> int:
    """A number without prime factors below 1,000 that is no product of close primes."""
    found = (1 << bits - 1) + (1 << bits - 2) + 1
    while any(found % prime == 0 for prime in range(3, 1000, 2)):
        found += 2
    return found


def close_primes_modulus() -> int:
    """A product of two factors that differ by two, neither with a small factor."""
    low = (1 << 1023) + (1 << 1022) + 1
    while any((low + shift) % prime == 0 for shift in (0, 2) for prime in range(3, 1000, 2)):
        low += 2
    return low * (low + 2)


def roca_modulus() -> int:
    """A number that is a power of 65537 modulo every prime up to 167, as the broken generator's are."""
    product = 1
    for number in range(2, 168):
        if all(number % divisor for divisor in range(2, number)):
            product *= number
    residue = pow(65537, 1234, product)
    found = ((1 << 2047) // product + 1) * product + residue
    while any(found % prime == 0 for prime in range(3, 1000, 2)):
        found += product
    return found
