"""Fingerprints as people compare them."""


def fingerprint(digest: bytes) -> str:
    """Return a SHA-256 fingerprint such as `AB:01:...`."""
    return digest.hex(":").upper()
