"""Signatures of hardware-backed SSH keys (`ssh-keygen -Y sign`), which prove a touch of the device.

Sources: OpenSSH's PROTOCOL.sshsig (the envelope and what is signed) and PROTOCOL.u2f (what the device adds).
"""

import hashlib
from collections.abc import Iterable

from cryptography.exceptions import InvalidSignature

from keyreeve.length_prefix import length_prefixed, split_fields
from keyreeve_ca.requests.openssh_keys import OperatorKey
from keyreeve_ca.requests.openssh_signatures import verify_device_signature

LARGEST = 4096
"""Octets; a signature of a device has a few hundred."""
_MAGIC = b"SSHSIG"
_VERSION = (1).to_bytes(4, "big")
_HASHES = {b"sha256": hashlib.sha256, b"sha512": hashlib.sha512}


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
        key = next(known for known in keys if known.hardware and known.blob == blob)
        hashed = _HASHES[digest](message).digest()
        if space != namespace.encode():
            raise InvalidSignature
        verify_device_signature(key, signature, _MAGIC + length_prefixed(space, reserved, digest, hashed))
    except (ValueError, KeyError, StopIteration):
        raise InvalidSignature from None
    return key
