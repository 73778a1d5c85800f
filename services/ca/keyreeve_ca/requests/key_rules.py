"""Which public keys may be certified; size and shape first, so that a bad key costs no arithmetic.

Sources: RFC 3279 and RFC 5480 (SubjectPublicKeyInfo), RFC 8410 (Ed25519), NIST SP 800-89 section 5.3.3 (RSA checks),
CVE-2017-15361 (ROCA), and Fermat's factorization for primes that are too close to each other.
"""

import math
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import NoReturn

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA256, SHA384, SHA512
from cryptography.hazmat.primitives.serialization import load_der_public_key

from keyreeve.errors import CsrMalformed, CsrSignatureInvalid, KeyBlocked, KeyTypeRefused, KeyWeak
from keyreeve_ca.requests import der_reader as der
from keyreeve_chassis.keys.key_types import KeyType

PublicKey = EllipticCurvePublicKey | RSAPublicKey | Ed25519PublicKey

PUBLIC_EXPONENT = 65537
FERMAT_ROUNDS = 100


@dataclass(frozen=True, slots=True)
class KnownKeys:
    """SHA-256 hashes of the DER SubjectPublicKeyInfo of keys that are never certified."""

    blocked: AbstractSet[bytes] = frozenset()
    """Compromised keys."""
    own: AbstractSet[bytes] = frozenset()
    """Keys of this CA's authorities."""


def _tlv(tag: int, content: bytes) -> bytes:
    size = len(content)
    if size < 0x80:
        return bytes((tag, size)) + content
    octets = (size.bit_length() + 7) // 8
    return bytes((tag, 0x80 | octets)) + size.to_bytes(octets, "big") + content


@dataclass(frozen=True, slots=True)
class _Shape:
    """The only accepted encoding of a key type: fixed octets before and after the key."""

    key_type: KeyType
    prefix: bytes
    key_bytes: int
    suffix: bytes


_RSA = bytes.fromhex("2a864886f70d010101")
_EC = bytes.fromhex("2a8648ce3d0201")
_ED25519 = bytes.fromhex("2b6570")
_CURVES = {bytes.fromhex("2a8648ce3d030107"): KeyType.P256, bytes.fromhex("2b81040022"): KeyType.P384}
_RSA_TYPES = {2048: KeyType.RSA2048, 3072: KeyType.RSA3072, 4096: KeyType.RSA4096}


def _shape(key_type: KeyType, algorithm: bytes, before: bytes, key_bytes: int, after: bytes = b"") -> _Shape:
    key = b"\x00" * key_bytes
    body = b"\x00" + (_tlv(der.SEQUENCE, _tlv(der.INTEGER, before + key) + after) if after else before + key)
    whole = _tlv(der.SEQUENCE, _tlv(der.SEQUENCE, algorithm) + _tlv(der.BIT_STRING, body))
    return _Shape(key_type, whole[: len(whole) - key_bytes - len(after)], key_bytes, after)


def _shapes() -> dict[int, _Shape]:
    shapes = [_shape(KeyType.ED25519, _tlv(der.OBJECT_IDENTIFIER, _ED25519), b"", 32)]
    for oid, key_type in _CURVES.items():
        named_curve = _tlv(der.OBJECT_IDENTIFIER, _EC) + _tlv(der.OBJECT_IDENTIFIER, oid)
        shapes.append(_shape(key_type, named_curve, b"\x04", 64 if key_type is KeyType.P256 else 96))
    exponent = _tlv(der.INTEGER, PUBLIC_EXPONENT.to_bytes(3, "big"))
    for bits, key_type in _RSA_TYPES.items():
        shapes.append(_shape(key_type, _tlv(der.OBJECT_IDENTIFIER, _RSA) + b"\x05\x00", b"\x00", bits // 8, exponent))
    return {len(shape.prefix) + shape.key_bytes + len(shape.suffix): shape for shape in shapes}


_SHAPES = _shapes()


_OTHER_ALGORITHMS = {
    "1.2.840.10040.4.1": "DSA",
    "1.2.840.10046.2.1": "Diffie-Hellman",
    "1.2.840.113549.1.1.10": "RSASSA-PSS (an RSA key bound to one padding)",
    "1.3.101.110": "X25519 (it cannot sign)",
    "1.3.101.111": "X448 (it cannot sign)",
    "1.3.101.113": "Ed448",
    "2.16.840.1.101.3.4.3.17": "ML-DSA-44",
    "2.16.840.1.101.3.4.3.18": "ML-DSA-65",
    "2.16.840.1.101.3.4.3.19": "ML-DSA-87",
}
_OTHER_CURVES = {
    "1.2.840.10045.3.1.1": "P-192",
    "1.3.132.0.33": "P-224",
    "1.3.132.0.35": "P-521",
    "1.3.132.0.10": "secp256k1",
}


def classify_key(spki: bytes) -> KeyType:
    """Return the type of a DER SubjectPublicKeyInfo, from its octets alone.

    Raises `KeyTypeRefused` for other types or sizes, `KeyWeak` for an RSA exponent other than 65537 or a point at
    infinity, `CsrMalformed` when it is not strict DER. The key's strength is checked by `check_key`.
    """
    shape = _SHAPES.get(len(spki))
    if (
        shape is None
        or not spki.startswith(shape.prefix)
        or not spki.endswith(shape.suffix)
        or (shape.key_type.is_rsa and not spki[len(shape.prefix)] & 0x80)  # fewer bits than its octets
    ):
        _refuse(spki)
    return shape.key_type


def load_key(spki: bytes) -> PublicKey:
    """Return the key object of an SPKI that `classify_key` accepted. Raises `KeyWeak` for a point off the curve."""
    try:
        key = load_der_public_key(spki)
    except (ValueError, UnsupportedAlgorithm):
        raise KeyWeak("the public key is not a point on its curve, or not a key of its type at all") from None
    except BaseException as failure:
        # A panic in cryptography's Rust code arrives as `pyo3_runtime.PanicException`, which derives from BaseException
        # and cannot be imported. One caller's strange key must not end the process; everything else passes on.
        if type(failure).__name__ != "PanicException":
            raise
        raise CsrMalformed("the public key cannot be read") from None
    if not isinstance(key, EllipticCurvePublicKey | RSAPublicKey | Ed25519PublicKey):
        raise KeyTypeRefused("the public key is of a type that no profile allows")
    return key


def check_key(spki: bytes, digest: bytes, key_type: KeyType, known: KnownKeys) -> None:
    """Refuse a key that is blocked, is the CA's own, or can be broken cheaply.

    `digest` is the SHA-256 hash of `spki`, and `key_type` what `classify_key` said of it.

    Raises `KeyBlocked` or `KeyWeak`. Costs about a microsecond, for RSA well below a millisecond.
    """
    if digest in known.own:
        raise KeyBlocked("the key is one of the CA's own", metadata={"spki_sha256": digest.hex()})
    if digest in known.blocked:
        raise KeyBlocked("the key is blocked as compromised", metadata={"spki_sha256": digest.hex()})
    shape = _SHAPES[len(spki)]
    key = spki[len(shape.prefix) : len(shape.prefix) + shape.key_bytes]
    if key_type.is_rsa:
        _check_modulus(int.from_bytes(key, "big"))
    elif key_type is KeyType.ED25519:
        _check_ed25519(int.from_bytes(key, "little") & ((1 << 255) - 1))


def _primes(limit: int) -> list[int]:
    return [n for n in range(2, limit) if all(n % d for d in range(2, math.isqrt(n) + 1))]


_SMALL_PRIMES = math.prod(_primes(1000))


def _roca_fingerprint() -> tuple[tuple[int, frozenset[int]], ...]:
    """Return, for each useful prime up to 167, the residues that a ROCA modulus can have.

    The broken generator made primes of the form k * M + (65537 ** a mod M), with M a product of the first primes (39 of
    them, so up to 167, in its smallest keys). Modulo each of those primes, such a prime is a power of 65537, and so is
    the product of two.
    """
    fingerprint = []
    for prime in _primes(168)[1:]:
        powers = frozenset(pow(PUBLIC_EXPONENT, a, prime) for a in range(prime))
        if len(powers) < prime - 1:
            fingerprint.append((prime, powers))
    return tuple(fingerprint)


_ROCA = _roca_fingerprint()
_ROCA_PRODUCT = math.prod(prime for prime, _ in _ROCA)


def _check_modulus(n: int) -> None:
    if math.gcd(n, _SMALL_PRIMES) != 1:
        raise KeyWeak("the RSA modulus has a prime factor below 1,000")
    residue = n % _ROCA_PRODUCT
    if all(residue % prime in powers for prime, powers in _ROCA):
        raise KeyWeak("the RSA modulus has the fingerprint of the ROCA generator (CVE-2017-15361)")
    _check_fermat(n)


def _check_fermat(n: int) -> None:
    """Look for n = a^2 - b^2 with a from the square root upwards: found at once when the primes are close."""
    root = math.isqrt(n - 1) + 1
    rest = root * root - n
    for _ in range(FERMAT_ROUNDS):
        # A square ends in one of 12 residues modulo 64, which spares most of the square roots.
        if rest & 63 in _SQUARES_MODULO_64 and math.isqrt(rest) ** 2 == rest:
            raise KeyWeak("the two primes of the RSA modulus are too close to each other (Fermat)")
        rest += 2 * root + 1
        root += 1


_SQUARES_MODULO_64 = frozenset(n * n % 64 for n in range(64))

_ED25519_PRIME = 2**255 - 19
_ORDER_8 = 0x7A03AC9277FDC74EC6CC392CFA53202A0F67100D760B3CBA4FD84D3D706A17C7
"""y of two of the points of order 8; the other two have its negative."""
_SMALL_ORDER = frozenset({0, 1, _ED25519_PRIME - 1, _ORDER_8, _ED25519_PRIME - _ORDER_8})


def _check_ed25519(y: int) -> None:
    if y >= _ED25519_PRIME:
        raise KeyWeak("the Ed25519 key is not encoded in its only canonical form")
    if y in _SMALL_ORDER:
        raise KeyWeak("the Ed25519 key is a point of small order: anybody can sign for it")


def _refuse(spki: bytes) -> NoReturn:
    """Raise the reason why an SPKI has none of the accepted shapes."""
    start, end = der.expect(spki, 0, len(spki), der.SEQUENCE, "the public key")
    if end != len(spki):
        raise CsrMalformed("the public key is followed by other bytes")
    start, algorithm_end = der.expect(spki, start, end, der.SEQUENCE, "the key's algorithm")
    oid_start, oid_end = der.expect(spki, start, algorithm_end, der.OBJECT_IDENTIFIER, "the key's algorithm")
    key_start, key_end = der.expect(spki, algorithm_end, end, der.BIT_STRING, "the key")
    if key_end != end or key_end == key_start or spki[key_start] != 0:
        raise CsrMalformed("the key is not one bit string of whole octets")
    algorithm = spki[oid_start:oid_end]
    parameters = spki[oid_end:algorithm_end]
    key = spki[key_start + 1 : key_end]
    if algorithm == _RSA:
        _refuse_rsa(parameters, key)
    if algorithm == _EC:
        _refuse_ec(parameters, key)
    if algorithm == _ED25519:
        raise CsrMalformed("the Ed25519 key is not 32 octets without parameters (RFC 8410)")
    oid = der.oid_text(algorithm, "the key's algorithm")
    _refuse_type(_OTHER_ALGORITHMS.get(oid, f"a key of algorithm {oid}"))


def _refuse_rsa(parameters: bytes, key: bytes) -> NoReturn:
    start, end = der.expect(key, 0, len(key), der.SEQUENCE, "the RSA key")
    n_start, n_end = der.expect(key, start, end, der.INTEGER, "the RSA modulus")
    e_start, e_end = der.expect(key, n_end, end, der.INTEGER, "the RSA exponent")
    if end != len(key) or e_end != end or parameters != b"\x05\x00":
        raise CsrMalformed("the RSA key has wrong parameters or bytes left over")
    for at, stop, what in ((n_start, n_end, "modulus"), (e_start, e_end, "exponent")):
        padded = stop - at > 1 and key[at] == 0 and key[at + 1] < 0x80
        if at == stop or key[at] & 0x80 or padded:
            raise CsrMalformed(f"the RSA {what} is negative or not in its shortest form")
    bits = (n_end - n_start) * 8 - 8 + key[n_start].bit_length()
    if key[n_start] == 0 and n_end - n_start > 1:
        bits = (n_end - n_start) * 8 - 16 + key[n_start + 1].bit_length()
    if bits not in _RSA_TYPES:
        _refuse_type(f"RSA with {bits} bits")
    # The exponent may be as long as the request: its length is told, never its value.
    shown = str(int.from_bytes(key[e_start:e_end], "big")) if e_end - e_start <= 4 else f"of {e_end - e_start} octets"
    raise KeyWeak(f"the RSA exponent is {shown}; only {PUBLIC_EXPONENT} is accepted")


def _refuse_ec(parameters: bytes, key: bytes) -> NoReturn:
    tag, start, end = der.element(parameters, 0, len(parameters), "the key's curve")
    if tag != der.OBJECT_IDENTIFIER or end != len(parameters):
        _refuse_type("an elliptic curve key that does not name its curve")
    curve = _CURVES.get(parameters[start:end])
    if curve is None:
        oid = der.oid_text(parameters[start:end], "the key's curve")
        _refuse_type(f"an elliptic curve key on {_OTHER_CURVES.get(oid, f'curve {oid}')}")
    if key == b"\x00":
        raise KeyWeak("the public key is the point at infinity")
    if key[:1] in {b"\x02", b"\x03"}:
        _refuse_type(f"a {curve} key with a compressed point")
    raise CsrMalformed(f"the {curve} key is not an uncompressed point (RFC 5480)")


def _refuse_type(what: str) -> NoReturn:
    allowed = ", ".join(KeyType)
    raise KeyTypeRefused(f"the key is {what}; allowed are {allowed}", metadata={"key_type": what, "allowed": allowed})


Hash = SHA256 | SHA384 | SHA512

_HASHES: tuple[tuple[int, Hash], ...] = ((1, SHA256()), (2, SHA384()), (3, SHA512()))
"""Last arc of the hash's OID below 2.16.840.1.101.3.4.2, and the hash."""
_ED25519_SIGNATURE = bytes.fromhex("300506032b6570")


def _pss(arc: int, salt_bytes: int) -> bytes:
    """RSASSA-PSS parameters (RFC 4055, section 3.1): one hash for both, salt as long as the hash, trailer 1."""
    algorithm = bytes.fromhex("300d06096086480165030402") + bytes((arc,)) + b"\x05\x00"
    mask = bytes.fromhex("301a06092a864886f70d010108") + algorithm
    parameters = b"\xa0\x0f" + algorithm + b"\xa1\x1c" + mask + b"\xa2\x03\x02\x01" + bytes((salt_bytes,))
    return bytes.fromhex("304106092a864886f70d01010a3034") + parameters


_ECDSA_SIGNATURES = {
    bytes.fromhex("300a06082a8648ce3d0403") + bytes((arc + 1,)): ec.ECDSA(algorithm) for arc, algorithm in _HASHES
}
_RSA_SIGNATURES: dict[bytes, tuple[padding.AsymmetricPadding, Hash]] = {}
for _arc, _hash in _HASHES:
    _pkcs1 = bytes.fromhex("06092a864886f70d0101") + bytes((_arc + 10,))
    _RSA_SIGNATURES[b"\x30\x0d" + _pkcs1 + b"\x05\x00"] = (padding.PKCS1v15(), _hash)
    _RSA_SIGNATURES[b"\x30\x0b" + _pkcs1] = (padding.PKCS1v15(), _hash)  # RFC 4055 section 5: the NULL may be missing
    _RSA_SIGNATURES[_pss(_arc, _hash.digest_size)] = (padding.PSS(padding.MGF1(_hash), _hash.digest_size), _hash)

ACCEPTED_ALGORITHMS = frozenset({_ED25519_SIGNATURE, *_ECDSA_SIGNATURES, *_RSA_SIGNATURES})
"""DER AlgorithmIdentifiers, whole."""


def check_signature(key: PublicKey, algorithm: bytes, signature: bytes, signed: bytes) -> None:
    """Verify that `signature` over the octets `signed` was made with the private key of `key`.

    `algorithm` is a DER AlgorithmIdentifier. Accepted are ECDSA and RSA (PKCS #1 v1.5 or PSS) with SHA-256, SHA-384 or
    SHA-512, and Ed25519. Raises `CsrSignatureInvalid`, also for every other algorithm (SHA-1, MD5) and for one that
    does not fit the key.
    """
    try:
        if isinstance(key, EllipticCurvePublicKey):
            if algorithm not in _ECDSA_SIGNATURES:
                raise _refused("an elliptic curve key")
            key.verify(signature, signed, _ECDSA_SIGNATURES[algorithm])
        elif isinstance(key, RSAPublicKey):
            if algorithm not in _RSA_SIGNATURES:
                raise _refused("an RSA key")
            scheme, digest = _RSA_SIGNATURES[algorithm]
            key.verify(signature, signed, scheme, digest)
        else:
            if algorithm != _ED25519_SIGNATURE:
                raise _refused("an Ed25519 key")
            key.verify(signature, signed)
    except InvalidSignature:
        raise CsrSignatureInvalid("the request is not signed by the key that it contains") from None


def _refused(key: str) -> CsrSignatureInvalid:
    return CsrSignatureInvalid(
        f"the signature algorithm is not accepted for {key}; accepted are ECDSA, RSA and RSA-PSS with SHA-256, "
        "SHA-384 or SHA-512 (PSS with a salt as long as the hash), and Ed25519"
    )
