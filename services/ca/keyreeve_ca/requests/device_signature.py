"""Signatures of hardware-backed SSH keys (`ssh-keygen -Y sign`), which prove a touch of the device.

Sources: OpenSSH's PROTOCOL.sshsig (the envelope and what is signed) and PROTOCOL.u2f (what the device adds).
"""

import hashlib
from collections.abc import Iterable

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from keyreeve.length_prefix import length_prefixed, split_fields
from keyreeve_ca.requests.openssh_keys import OperatorKey

LARGEST = 4096
"""Octets; a signature of a device has a few hundred."""
_MAGIC = b"SSHSIG"
_VERSION = (1).to_bytes(4, "big")
_HASHES = {b"sha256": hashlib.sha256, b"sha512": hashlib.sha512}
_TOUCHED = 0x01
_TAIL = 5
"""Octets behind the signature proper: flags, and a counter of four."""


def verify_touch(envelope: bytes, message: bytes, namespace: str, keys: Iterable[OperatorKey]) -> OperatorKey:
    """Return which of the device keys signed `message`, by a touch, for `namespace`.

    Raises `InvalidSignature`. `envelope` is the content of OpenSSH's armor. The device's counter is ignored: freshness
    must come from the message.
    """
    start = len(_MAGIC) + len(_VERSION)
    if len(envelope) > LARGEST or envelope[:start] != _MAGIC + _VERSION:
        raise InvalidSignature
    try:
        blob, space, reserved, digest, signature = split_fields(envelope[start:])
        algorithm, proper = split_fields(signature[:-_TAIL])
        key = next(known for known in keys if known.hardware and known.blob == blob)
        hashed = _HASHES[digest](message).digest()
        parts = split_fields(proper) if key.algorithm.startswith("sk-ecdsa") else [proper]
    except (ValueError, KeyError, StopIteration):
        raise InvalidSignature from None
    tail = signature[-_TAIL:]
    if space != namespace.encode() or algorithm != key.algorithm.encode() or not tail[0] & _TOUCHED:
        raise InvalidSignature
    asked = _MAGIC + length_prefixed(space, reserved, digest, hashed)
    application, point = (split_fields(blob)[at] for at in (-1, -2))
    signed = hashlib.sha256(application).digest() + tail + hashlib.sha256(asked).digest()
    if len(parts) == 1:
        Ed25519PublicKey.from_public_bytes(point).verify(proper, signed)
    else:
        r, s = (int.from_bytes(part, "big", signed=True) for part in parts)
        if r <= 0 or s <= 0:
            raise InvalidSignature
        EllipticCurvePublicKey.from_encoded_point(SECP256R1(), point).verify(
            encode_dss_signature(r, s), signed, ECDSA(hashes.SHA256())
        )
    return key
