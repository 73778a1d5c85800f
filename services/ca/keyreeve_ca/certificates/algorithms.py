"""The AlgorithmIdentifier of each key type that an authority signs with."""

from keyreeve_ca.certificates import der_writer as der
from keyreeve_chassis.keys.key_types import KeyType

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
