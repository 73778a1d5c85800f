"""Operators' public keys in OpenSSH's one-line format: parsed strictly, checked like certified keys.

Sources: RFC 4253 section 6.6 and RFC 5656 section 3.1 (encodings), RFC 8709 (Ed25519), RFC 4251 section 5 (mpint), and
OpenSSH's PROTOCOL.u2f (keys in devices). A refusal never repeats the line: it may be a private key pasted by mistake.
"""

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from keyreeve.errors import FieldInvalid, KeyTypeRefused, KeyWeak, Violation
from keyreeve.length_prefix import split_fields
from keyreeve_ca.requests.key_rules import PUBLIC_EXPONENT, KnownKeys, PublicKey, check_key, classify_key, load_key
from keyreeve_chassis.keys.key_types import KeyType

MOST_KEYS = 16
"""Of one person."""
_LONGEST_LINE = 2_000
_LONGEST_COMMENT = 100
_RSA_BITS = {2048: KeyType.RSA2048, 3072: KeyType.RSA3072, 4096: KeyType.RSA4096}
_HARDWARE = {
    "sk-ssh-ed25519@openssh.com": KeyType.ED25519,
    "sk-ecdsa-sha2-nistp256@openssh.com": KeyType.P256,
}
_ALLOWED = ("ssh-ed25519", "ecdsa-sha2-nistp256", "ssh-rsa", *_HARDWARE)
_ALGORITHM = re.compile(r"(ssh|ecdsa|sk-ssh|sk-ecdsa|webauthn-sk)-[a-z0-9@.-]{1,60}\Z")


@dataclass(frozen=True, slots=True)
class OperatorKey:
    """One parsed public key."""

    algorithm: str
    blob: bytes
    """The key as SSH sends it."""
    comment: str = ""

    @property
    def line(self) -> str:
        """The line that was parsed."""
        return " ".join(filter(None, (self.algorithm, base64.b64encode(self.blob).decode(), self.comment)))

    @property
    def fingerprint(self) -> str:
        """The key's fingerprint, as `ssh-keygen -l` shows it."""
        digest = hashlib.sha256(self.blob).digest()
        return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")

    @property
    def hardware(self) -> bool:
        """Whether the private key is in a device that asks for a touch."""
        return self.algorithm in _HARDWARE


def read_operator_key(line: str, known: KnownKeys, field: str = "keys") -> OperatorKey:
    """Parse and check one line. Raises `FieldInvalid`, `KeyTypeRefused`, `KeyWeak`, `KeyBlocked`."""
    if len(line) > _LONGEST_LINE or not line.isprintable():
        raise _malformed(field, f"one line of at most {_LONGEST_LINE} printable characters is required")
    algorithm, _, rest = line.partition(" ")
    encoded, _, comment = rest.partition(" ")
    if algorithm not in _ALLOWED:
        raise _refused_type(field, algorithm)
    if len(comment) > _LONGEST_COMMENT or comment != comment.strip():
        raise _malformed(
            field, f"the comment is longer than {_LONGEST_COMMENT} characters, or begins or ends with space"
        )
    try:
        blob = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        blob = b""
    if not blob or base64.b64encode(blob).decode() != encoded:
        raise _malformed(field, "the second word is not base64 in its one form")
    key = OperatorKey(algorithm, blob, comment)
    _judge(key, known, field)
    return key


def stored_key(line: str) -> OperatorKey:
    """Parse a line from the database, which was checked before."""
    algorithm, encoded, *comment = line.split(" ", 2)
    return OperatorKey(algorithm, base64.b64decode(encoded), "".join(comment))


def _judge(key: OperatorKey, known: KnownKeys, field: str) -> None:
    spki, key_type = _spki(key, field)
    classify_key(spki)
    load_key(spki)
    check_key(spki, hashlib.sha256(spki).digest(), key_type, known)


def _spki(key: OperatorKey, field: str) -> tuple[bytes, KeyType]:
    try:
        algorithm, *fields = split_fields(key.blob)
    except ValueError:
        raise _malformed(field, "the key is cut off, or followed by other bytes") from None
    if algorithm != key.algorithm.encode():
        raise _malformed(field, "the key says that it is of another algorithm than its line does")
    if key.hardware:
        application = fields.pop() if fields else b""
        if not application.startswith(b"ssh:") or not application.isascii() or not application.decode().isprintable():
            raise _malformed(field, "the key in a device is bound to something else than SSH (ssh:...)")
    made: PublicKey
    match _HARDWARE.get(key.algorithm, key.algorithm), fields:
        case ((KeyType.ED25519 | "ssh-ed25519"), [point]) if len(point) == 32:
            made, key_type = Ed25519PublicKey.from_public_bytes(point), KeyType.ED25519
        case ((KeyType.P256 | "ecdsa-sha2-nistp256"), [b"nistp256", point]) if len(point) == 65 and point[0] == 4:
            made, key_type = _p256(point, field), KeyType.P256
        case "ssh-rsa", [exponent, modulus]:
            made, key_type = _rsa(_positive(exponent, field), _positive(modulus, field), field)
        case _:
            raise _malformed(field, "the fields of the key are not those of its algorithm")
    return made.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo), key_type


def _p256(point: bytes, field: str) -> EllipticCurvePublicKey:
    try:
        return EllipticCurvePublicKey.from_encoded_point(SECP256R1(), point)
    except ValueError:
        raise KeyWeak(f"{field}: the public key is not a point on its curve") from None


def _rsa(exponent: int, modulus: int, field: str) -> tuple[PublicKey, KeyType]:
    key_type = _RSA_BITS.get(modulus.bit_length())
    if key_type is None:
        raise _refused_type(field, f"RSA with {modulus.bit_length()} bits")
    if exponent != PUBLIC_EXPONENT:
        raise KeyWeak(f"{field}: only the RSA exponent {PUBLIC_EXPONENT} is accepted")
    try:
        return RSAPublicNumbers(exponent, modulus).public_key(), key_type
    except ValueError:
        raise KeyWeak(f"{field}: the public key is not an RSA key at all") from None


def _positive(number: bytes, field: str) -> int:
    padded = len(number) > 1 and number[0] == 0 and number[1] < 0x80
    if not number or number[0] & 0x80 or padded:
        raise _malformed(field, "a number of the key is not positive and in its shortest form")
    return int.from_bytes(number, "big")


def _malformed(field: str, why: str) -> FieldInvalid:
    return FieldInvalid(f"{field}: {why}", violations=[Violation(field, why)])


def _refused_type(field: str, what: str) -> KeyTypeRefused:
    allowed = ", ".join((*_ALLOWED[:2], "ssh-rsa (2048, 3072 or 4096 bits)", *_HARDWARE))
    shown = what if _ALGORITHM.match(what) or what.startswith("RSA ") else "not one that starts with its algorithm"
    return KeyTypeRefused(
        f"{field}: the key is {shown}; allowed are {allowed}, without options",
        metadata={"key_type": shown, "allowed": allowed},
    )
