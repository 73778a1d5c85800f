"""A strict DER reader for the final check: definite, shortest-form lengths and whole elements only."""

import calendar
import re

BOOLEAN = 0x01
INTEGER = 0x02
BIT_STRING = 0x03
OCTET_STRING = 0x04
OID = 0x06
SEQUENCE = 0x30
SET = 0x31
_UTC_TIME = 0x17
_GENERALIZED_TIME = 0x18

_DIGITS = re.compile(rb"(\d\d)?(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)Z\Z")


class Malformed(Exception):
    """The bytes do not have the expected structure; the text names the field."""


def element(data: bytes, position: int, end: int) -> tuple[int, int, int]:
    """Return tag, content start and content end of the element at `position`; it must end before `end`."""
    start = position + 2
    if start > end:
        raise Malformed("an element is cut off")
    length = data[position + 1]
    if length >= 0x80:
        octets = length - 0x80
        if not 1 <= octets <= 3:
            raise Malformed("a length is indefinite or absurd")
        length = int.from_bytes(data[start : start + octets], "big")
        if length < 0x80 or length.bit_length() <= 8 * (octets - 1):
            raise Malformed("a length is longer than it needs to be")
        start += octets
    stop = start + length
    if stop > end:
        raise Malformed("an element reaches beyond the one that holds it")
    return data[position], start, stop


def enter(data: bytes, position: int, end: int, tag: int) -> tuple[int, int]:
    """Return start and end of the content of the element at `position`, which must have this tag."""
    found, start, stop = element(data, position, end)
    if found != tag:
        raise Malformed(f"tag {tag:#04x} was expected and {found:#04x} found")
    return start, stop


def enter_whole(data: bytes, tag: int) -> tuple[int, int]:
    """Return start and end of the content of the one element in `data`."""
    start, stop = enter(data, 0, len(data), tag)
    if stop != len(data):
        raise Malformed("something follows the element")
    return start, stop


def read_time(data: bytes, position: int) -> tuple[int, int]:
    """Return seconds since 1970 and the end offset of a Time.

    Only the form that RFC 5280, 4.1.2.5, allows for its year is accepted.
    """
    tag, start, stop = element(data, position, len(data))
    digits = _DIGITS.match(data[start:stop])
    if digits is None or tag not in {_UTC_TIME, _GENERALIZED_TIME}:
        raise Malformed("a time")
    century, year, month, day, hour, minute, second = (int(part or b"0") for part in digits.groups())
    if tag == _UTC_TIME:
        if digits[1] is not None:
            raise Malformed("a time")
        year += 1900 if year >= 50 else 2000
    else:
        year += 100 * century
        if digits[1] is None or year < 2050:
            raise Malformed("a time")
    if (
        hour > 23
        or minute > 59
        or second > 59
        or not 1 <= month <= 12
        or not 1 <= day <= calendar.monthrange(year, month)[1]
    ):
        raise Malformed("a time")
    return calendar.timegm((year, month, day, hour, minute, second)), stop
