"""Accepted signature algorithms of a CSR, and their verification (RFC 4055, RFC 5758, RFC 8410)."""

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA256, SHA384, SHA512

from keyreeve.errors import CsrSignatureInvalid
from keyreeve_ca.requests.key_rules import PublicKey

Hash = SHA256 | SHA384 | SHA512

_HASHES: tuple[tuple[int, Hash], ...] = ((1, SHA256()), (2, SHA384()), (3, SHA512()))
"""Last arc of the hash's OID below 2.16.840.1.101.3.4.2, and the hash."""
_ED25519 = bytes.fromhex("300506032b6570")


def _pss(arc: int, salt_bytes: int) -> bytes:
    """RSASSA-PSS parameters (RFC 4055, section 3.1): one hash for both, salt as long as the hash, trailer 1."""
    algorithm = bytes.fromhex("300d06096086480165030402") + bytes((arc,)) + b"\x05\x00"
    mask = bytes.fromhex("301a06092a864886f70d010108") + algorithm
    parameters = b"\xa0\x0f" + algorithm + b"\xa1\x1c" + mask + b"\xa2\x03\x02\x01" + bytes((salt_bytes,))
    return bytes.fromhex("304106092a864886f70d01010a3034") + parameters


_ECDSA = {
    bytes.fromhex("300a06082a8648ce3d0403") + bytes((arc + 1,)): ec.ECDSA(algorithm) for arc, algorithm in _HASHES
}
_RSA: dict[bytes, tuple[padding.AsymmetricPadding, Hash]] = {}
for _arc, _hash in _HASHES:
    _pkcs1 = bytes.fromhex("06092a864886f70d0101") + bytes((_arc + 10,))
    _RSA[b"\x30\x0d" + _pkcs1 + b"\x05\x00"] = (padding.PKCS1v15(), _hash)
    _RSA[b"\x30\x0b" + _pkcs1] = (padding.PKCS1v15(), _hash)  # RFC 4055 section 5: the NULL may be missing
    _RSA[_pss(_arc, _hash.digest_size)] = (padding.PSS(padding.MGF1(_hash), _hash.digest_size), _hash)

ACCEPTED_ALGORITHMS = frozenset({_ED25519, *_ECDSA, *_RSA})
"""DER AlgorithmIdentifiers, whole."""


def check_signature(key: PublicKey, algorithm: bytes, signature: bytes, signed: bytes) -> None:
    """Verify that `signature` over the octets `signed` was made with the private key of `key`.

    `algorithm` is a DER AlgorithmIdentifier. Accepted are ECDSA and RSA (PKCS #1 v1.5 or PSS) with SHA-256, SHA-384 or
    SHA-512, and Ed25519. Raises `CsrSignatureInvalid`, also for every other algorithm (SHA-1, MD5) and for one that
    does not fit the key.
    """
    try:
        if isinstance(key, EllipticCurvePublicKey):
            if algorithm not in _ECDSA:
                raise _refused("an elliptic curve key")
            key.verify(signature, signed, _ECDSA[algorithm])
        elif isinstance(key, RSAPublicKey):
            if algorithm not in _RSA:
                raise _refused("an RSA key")
            scheme, digest = _RSA[algorithm]
            key.verify(signature, signed, scheme, digest)
        else:
            if algorithm != _ED25519:
                raise _refused("an Ed25519 key")
            key.verify(signature, signed)
    except InvalidSignature:
        raise CsrSignatureInvalid("the request is not signed by the key that it contains") from None


def _refused(key: str) -> CsrSignatureInvalid:
    return CsrSignatureInvalid(
        f"the signature algorithm is not accepted for {key}; accepted are ECDSA, RSA and RSA-PSS with SHA-256, "
        "SHA-384 or SHA-512 (PSS with a salt as long as the hash), and Ed25519"
    )
