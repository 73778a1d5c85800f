"""Signatures of OpenSSH keys over a message, as SSH sends them.

Sources: RFC 8332 (RSA with SHA-2), RFC 5656 section 3.1.2 (ECDSA), RFC 8709 (Ed25519), OpenSSH's PROTOCOL.u2f (devices).
"""

import hashlib

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from keyreeve.length_prefix import split_fields
from keyreeve_ca.requests.openssh_keys import OperatorKey

_TOUCHED = 0x01
_TAIL = 5
"""Octets behind the signature of a device: flags, and a counter of four."""
_RSA_HASHES = {b"rsa-sha2-256": hashes.SHA256(), b"rsa-sha2-512": hashes.SHA512()}


def verify_signature(key: OperatorKey, signature: bytes, message: bytes, algorithm: str) -> None:
    """Check a signature of a key; that of a device proves a touch. Raises `InvalidSignature`.

    `algorithm` is the one that was agreed on: a key's own, for RSA one of SHA-2.
    """
    try:
        if key.hardware:
            verify_device_signature(key, signature, message)
            return
        used, proper = split_fields(signature)
        if used != algorithm.encode():
            raise InvalidSignature
        kind, *fields = split_fields(key.blob)
        match kind, fields:
            case b"ssh-ed25519", [point]:
                Ed25519PublicKey.from_public_bytes(point).verify(proper, message)
            case b"ecdsa-sha2-nistp256", [_, point]:
                _verify_ecdsa(point, *split_fields(proper), message=message)
            case b"ssh-rsa", [exponent, modulus] if used in _RSA_HASHES:
                numbers = RSAPublicNumbers(int.from_bytes(exponent, "big"), int.from_bytes(modulus, "big"))
                numbers.public_key().verify(proper, message, PKCS1v15(), _RSA_HASHES[used])
            case _:
                raise InvalidSignature
    except (ValueError, TypeError):
        raise InvalidSignature from None


def verify_device_signature(key: OperatorKey, signature: bytes, message: bytes) -> None:
    """Check the signature of a device, with its flags and counter: the flags must say that it was touched.

    Raises `InvalidSignature`, or `ValueError` for what is no such signature. The counter is ignored: freshness must come from
    the message.
    """
    algorithm, proper = split_fields(signature[:-_TAIL])
    tail = signature[-_TAIL:]
    if algorithm != key.algorithm.encode() or not tail[0] & _TOUCHED:
        raise InvalidSignature
    application, point = (split_fields(key.blob)[at] for at in (-1, -2))
    signed = hashlib.sha256(application).digest() + tail + hashlib.sha256(message).digest()
    if key.algorithm.startswith("sk-ecdsa"):
        _verify_ecdsa(point, *split_fields(proper), message=signed)
    else:
        Ed25519PublicKey.from_public_bytes(point).verify(proper, signed)


def _verify_ecdsa(point: bytes, *parts: bytes, message: bytes) -> None:
    r, s = (int.from_bytes(part, "big", signed=True) for part in parts)
    if r <= 0 or s <= 0:
        raise InvalidSignature
    key = EllipticCurvePublicKey.from_encoded_point(SECP256R1(), point)
    key.verify(encode_dss_signature(r, s), message, ECDSA(hashes.SHA256()))
