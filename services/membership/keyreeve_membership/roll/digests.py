"""Fingerprints."""

import hashlib


def sha256(data: bytes) -> bytes:
    """SHA-256 of some bytes."""
    return hashlib.sha256(data).digest()
