"""A DER writer (ITU-T X.690) for the few types that certificates are made of.

The reader that checks its output is in `final_check` and shares nothing with it.
"""

import time
from functools import lru_cache
from ipaddress import ip_address

from keyreeve.values import Name, NameType

BOOLEAN = 0x01
INTEGER = 0x02
BIT_STRING = 0x03
OCTET_STRING = 0x04
OBJECT_IDENTIFIER = 0x06
UTF8_STRING = 0x0C
PRINTABLE_STRING = 0x13
IA5_STRING = 0x16
UTC_TIME = 0x17
GENERALIZED_TIME = 0x18
SEQUENCE = 0x30
SET = 0x31

TRUE = b"\x01\x01\xff"

_YEAR_2050 = 2524608000
"""2050-01-01T00:00:00Z: from here on dates are GeneralizedTime (RFC 5280, 4.1.2.5)."""

_DNS, _URI, _IP = NameType.DNS, NameType.URI, NameType.IP


def tlv(tag: int, content: bytes) -> bytes:
    """Encode tag, shortest-form length and content."""
    length = len(content)
    if length < 0x80:
        return bytes((tag, length)) + content
    octets = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(octets))) + octets + content


def sequence(*members: bytes) -> bytes:
    """Encode SEQUENCE of encoded members."""
    return tlv(SEQUENCE, b"".join(members))


def integer(value: int) -> bytes:
    """Encode INTEGER, for values that are not negative."""
    return tlv(INTEGER, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def oid(dotted: str) -> bytes:
    """Encode OBJECT IDENTIFIER."""
    first, second, *rest = (int(arc) for arc in dotted.split("."))
    content = bytearray()
    for arc in (40 * first + second, *rest):
        groups = [arc & 0x7F]
        while arc := arc >> 7:
            groups.append(0x80 | (arc & 0x7F))
        content.extend(reversed(groups))
    return tlv(OBJECT_IDENTIFIER, bytes(content))


def named_bits(positions: set[int]) -> bytes:
    """Encode BIT STRING of named bits: bit 0 is leftmost, trailing zeros are left out (X.690, 11.2.2)."""
    highest = max(positions)
    value = bytearray(highest // 8 + 1)
    for position in positions:
        value[position // 8] |= 0x80 >> position % 8
    return tlv(BIT_STRING, bytes((7 - highest % 8,)) + bytes(value))


def utf8_attribute(oid: bytes, text: str) -> bytes:
    """Encode one RelativeDistinguishedName with one attribute (an encoded OID) as UTF8String."""
    return attribute(oid, UTF8_STRING, text)


def attribute(oid: bytes, tag: int, text: str) -> bytes:
    """Encode one RelativeDistinguishedName with one attribute as a string of the type `tag`."""
    return tlv(SET, sequence(oid, tlv(tag, text.encode())))


def point_in_time(seconds: int) -> bytes:
    """Encode Time: UTCTime before 2050, GeneralizedTime from then on."""
    moment = time.gmtime(seconds)
    if seconds < _YEAR_2050:
        return tlv(UTC_TIME, time.strftime("%y%m%d%H%M%SZ", moment).encode())
    return tlv(GENERALIZED_TIME, time.strftime("%Y%m%d%H%M%SZ", moment).encode())


@lru_cache(maxsize=1024)
def validity(not_before: int, not_after: int) -> bytes:
    """Encode Validity of two inclusive ends.

    Cached, because certificates of the same second share it.
    """
    return sequence(point_in_time(not_before), point_in_time(not_after))


def general_names(names: tuple[Name, ...]) -> bytes:
    """Encode GeneralNames in the given order.

    Raises `UnicodeEncodeError` when a name is not ASCII; policy lets none through.
    """
    encoded = []
    for name in names:
        kind = name.type
        if kind is _DNS:
            encoded.append(tlv(0x82, name.value.encode("ascii")))
        elif kind is _URI:
            encoded.append(tlv(0x86, name.value.encode("ascii")))
        elif kind is _IP:
            encoded.append(tlv(0x87, ip_address(name.value).packed))
        else:
            encoded.append(tlv(0x81, name.value.encode("ascii")))
    return tlv(SEQUENCE, b"".join(encoded))


def extension(identifier: bytes, value: bytes, *, critical: bool = False) -> bytes:
    """Encode Extension: an encoded OID, `critical` only when true (X.690, 11.5), the value in an OCTET STRING."""
    return sequence(identifier, TRUE if critical else b"", tlv(OCTET_STRING, value))


def subject_public_key(spki: bytes) -> bytes:
    """Return the content of the BIT STRING in a SubjectPublicKeyInfo, without its unused-bits octet."""
    position = _content_of(spki, 0)
    algorithm = _content_of(spki, position)
    length = spki[position + 1]  # an AlgorithmIdentifier never needs the long form
    return spki[_content_of(spki, algorithm + length) + 1 :]


def _content_of(data: bytes, position: int) -> int:
    """Return the offset of the content of the element at `position`."""
    first = data[position + 1]
    return position + 2 + (first & 0x7F if first & 0x80 else 0)
