"""Types of private keys, and the hash that each signs with."""

from enum import StrEnum

from cryptography.hazmat.primitives.hashes import SHA256, SHA384


class KeyType(StrEnum):
    """Types of keys; the text is what profiles, tables and errors call them."""

    P256 = "p256"
    P384 = "p384"
    RSA2048 = "rsa2048"
    RSA3072 = "rsa3072"
    RSA4096 = "rsa4096"
    ED25519 = "ed25519"

    is_rsa: bool

    def __init__(self, value: str) -> None:
        self.is_rsa = value.startswith("rsa")


HASH: dict[KeyType, SHA256 | SHA384 | None] = {
    KeyType.P256: SHA256(),
    KeyType.P384: SHA384(),
    KeyType.RSA2048: SHA256(),
    KeyType.RSA3072: SHA256(),
    KeyType.RSA4096: SHA384(),
    KeyType.ED25519: None,
}
"""The hash that a key of each type signs over; Ed25519 (RFC 8032) has its own inside."""
