"""How an authority's key signs: the AlgorithmIdentifier in its certificates, and the hash behind it."""

from cryptography.hazmat.primitives.hashes import SHA256, SHA384

from keyreeve_ca.certificates import der_writer as der
from keyreeve_ca.profiles.profile import KeyType

_NULL = b"\x05\x00"
_ECDSA_SHA256 = der.sequence(der.oid("1.2.840.10045.4.3.2"))
_ECDSA_SHA384 = der.sequence(der.oid("1.2.840.10045.4.3.3"))
_RSA_SHA256 = der.sequence(der.oid("1.2.840.113549.1.1.11"), _NULL)
_RSA_SHA384 = der.sequence(der.oid("1.2.840.113549.1.1.12"), _NULL)
_ED25519 = der.sequence(der.oid("1.3.101.112"))

SIGNATURE_ALGORITHM: dict[KeyType, bytes] = {
    KeyType.P256: _ECDSA_SHA256,
    KeyType.P384: _ECDSA_SHA384,
    KeyType.RSA2048: _RSA_SHA256,
    KeyType.RSA3072: _RSA_SHA256,
    KeyType.RSA4096: _RSA_SHA384,
    KeyType.ED25519: _ED25519,
}
"""DER AlgorithmIdentifier by the signing key's type (RFC 5758, 4055 - the NULL is required -, 8410).

RSA-4096 signs over SHA-384, so that the hash is not the weakest part; signatures of CAs stay with PKCS #1 v1.5, which
every TLS stack reads (PSS certificates fail in several).
"""

HASH: dict[KeyType, SHA256 | SHA384 | None] = {
    KeyType.P256: SHA256(),
    KeyType.P384: SHA384(),
    KeyType.RSA2048: SHA256(),
    KeyType.RSA3072: SHA256(),
    KeyType.RSA4096: SHA384(),
    KeyType.ED25519: None,
}
"""The hash that goes with `SIGNATURE_ALGORITHM`; Ed25519 has its own inside."""
