"""How much work a passphrase asks for: read from the parameters of key derivation, before any of it is done.

A file of 100 bytes can ask for hours of PBKDF2, or for terabytes of scrypt. The outer parameters are found by their object
identifiers (RFC 8018, RFC 7292, RFC 7914); what is inside encrypted data is not looked at.
"""

import base64
import binascii
import re
from collections.abc import Iterator

from keyreeve.errors import KeyFileUnreadable

MOST_ITERATIONS = 10_000_000
"""NSS uses 1,000,000 by default; ten million take about 5 s."""
MOST_SCRYPT_BYTES = 128 << 20
MOST_SCRYPT_PARALLEL = 16

_ITERATED = re.compile(
    rb"\x06(?:\x09\x2a\x86\x48\x86\xf7\x0d\x01\x05[\x01\x03\x04\x06\x0a\x0b\x0c]|\x0a\x2a\x86\x48\x86\xf7\x0d\x01\x0c\x01[\x01-\x06])"
)
_SCRYPT = b"\x06\x09\x2b\x06\x01\x04\x01\xda\x47\x04\x0b"
_PEM = re.compile(rb"-----BEGIN [A-Z0-9 ]+-----(.*?)-----END ", re.DOTALL)
_MAC = re.compile(rb"\x02([\x01-\x08])(?=.{1,8}(\x00\x00)*\Z)", re.DOTALL)


def check_costs(data: bytes) -> None:
    """Raise `KeyFileUnreadable` for a file whose passphrase takes too much work or memory to try."""
    for der in _ders(data):
        for found in _ITERATED.finditer(der):
            (iterations,) = _integers(der, found.end(), 1)
            if iterations > MOST_ITERATIONS:
                raise KeyFileUnreadable(f"its passphrase takes {iterations} iterations; {MOST_ITERATIONS} are allowed")
        at = der.find(_SCRYPT)
        while at >= 0:
            cost, block, parallel = _integers(der, at + len(_SCRYPT), 3)
            if 128 * cost * block > MOST_SCRYPT_BYTES or parallel > MOST_SCRYPT_PARALLEL:
                raise KeyFileUnreadable("its passphrase takes too much memory: scrypt with large parameters")
            at = der.find(_SCRYPT, at + 1)
        _check_mac(der)


def _ders(data: bytes) -> Iterator[bytes]:
    """The file itself, and what its PEM blocks hold."""
    yield data
    for block in _PEM.finditer(data):
        lines = [line for line in block[1].split(b"\n") if b":" not in line]
        try:
            yield base64.b64decode(b"".join(lines))
        except binascii.Error:
            continue


def _check_mac(der: bytes) -> None:
    """The iterations of the MAC are the last integer of a PKCS#12."""
    if not der.startswith(b"\x30"):
        return
    for found in _MAC.finditer(der, max(0, len(der) - 32)):
        size, start = found[1][0], found.end()
        rest = der[start + size :]
        if not rest.strip(b"\x00") and int.from_bytes(der[start : start + size], "big") > MOST_ITERATIONS:
            raise KeyFileUnreadable(f"its MAC takes more than {MOST_ITERATIONS} iterations")


def _integers(der: bytes, at: int, count: int) -> list[int]:
    """Integers of the parameters `SEQUENCE { OCTET STRING salt, INTEGER ... }` that begin here."""
    at, _ = _header(der, at, 0x30)
    at, size = _header(der, at, 0x04)
    at += size
    found = []
    for _ in range(count):
        at, size = _header(der, at, 0x02)
        found.append(int.from_bytes(der[at : at + size], "big"))
        at += size
    return found


def _header(der: bytes, at: int, tag: int) -> tuple[int, int]:
    """The beginning and the size of a value's contents; the size of an indefinite length is 0."""
    if len(der) < at + 2 or der[at] != tag:
        raise _unreadable()
    first = der[at + 1]
    if first < 0x80:
        return at + 2, first
    octets = first & 0x7F
    if octets > 4 or (octets == 0 and tag != 0x30):
        raise _unreadable()
    return at + 2 + octets, int.from_bytes(der[at + 2 : at + 2 + octets], "big")


def _unreadable() -> KeyFileUnreadable:
    return KeyFileUnreadable("the parameters of its key derivation cannot be read")
