"""A strict DER reader (X.690, section 10): shortest definite lengths, no trailing data, bounded depth.

The functions work on offsets into the whole message, so that an error can give the position; nothing is copied.
"""

from keyreeve.errors import CsrMalformed

BOOLEAN = 0x01
INTEGER = 0x02
BIT_STRING = 0x03
OCTET_STRING = 0x04
OBJECT_IDENTIFIER = 0x06
SEQUENCE = 0x30
SET = 0x31

_CONSTRUCTED = frozenset({0x08, 0x0B, 0x10, 0x11, 0x1D})
"""Universal tag numbers whose encoding is constructed; a string in pieces is BER, not DER (X.690, 10.2)."""

MAX_DEPTH = 12
MAX_ELEMENTS = 512


def element(data: bytes, at: int, end: int, what: str) -> tuple[int, int, int]:
    """Read an element's header at `at`; return its tag octet and the start and end of its content.

    `end` is the end of the enclosing element. Raises `CsrMalformed`, calling the element `what`.
    """
    if at + 2 > end:
        raise CsrMalformed(f"{what} is missing or cut off at byte {at}")
    tag = data[at]
    length = data[at + 1]
    start = at + 2
    if length > 0x7F:
        octets = length & 0x7F
        if octets == 0:
            raise CsrMalformed(f"{what} at byte {at} has an indefinite length; DER has none")
        if octets > 2:
            raise CsrMalformed(f"{what} at byte {at} has a length of {octets} octets, more than the whole request")
        start += octets
        if start > end:
            raise CsrMalformed(f"{what} is cut off at byte {at}")
        length = int.from_bytes(data[at + 2 : start], "big")
        if length < (0x80 if octets == 1 else 0x100):
            raise CsrMalformed(f"{what} at byte {at} does not have its length in the shortest form")
    stop = start + length
    if stop > end:
        raise CsrMalformed(f"{what} at byte {at} is longer than what encloses it")
    return tag, start, stop


def expect(data: bytes, at: int, end: int, tag: int, what: str) -> tuple[int, int]:
    """Read a header with the tag octet `tag`; return the start and end of the content."""
    found, start, stop = element(data, at, end, what)
    if found != tag:
        raise CsrMalformed(f"{what} at byte {at} has tag 0x{found:02x} in place of 0x{tag:02x}")
    return start, stop


def check_whole(data: bytes, at: int, end: int, what: str) -> None:
    """Check that `data[at:end]` is a sequence of strict DER elements, down to the leaves."""
    ends = [end]
    elements = 0
    while ends:
        if at == ends[-1]:
            ends.pop()
            continue
        elements += 1
        if elements > MAX_ELEMENTS:
            raise CsrMalformed(f"{what} has more than {MAX_ELEMENTS} elements")
        tag, start, stop = element(data, at, ends[-1], what)
        if tag & 0x1F == 0x1F:
            raise CsrMalformed(f"{what} has a tag number above 30 at byte {at}")
        if tag < 0x40 and (tag == 0 or (tag & 0x20 != 0) != (tag & 0x1F in _CONSTRUCTED)):
            raise CsrMalformed(f"{what} has tag 0x{tag:02x} at byte {at}, which DER does not allow")
        if tag & 0x20:
            if len(ends) >= MAX_DEPTH:
                raise CsrMalformed(f"{what} is nested deeper than {MAX_DEPTH}")
            ends.append(stop)
            at = start
        else:
            at = stop


def oid_text(content: bytes, what: str) -> str:
    """Return an object identifier's content octets in dotted form (X.690, 8.19)."""
    if not content or content[-1] & 0x80 or len(content) > 64:
        raise CsrMalformed(f"{what} is not an object identifier of 1 to 64 octets")
    arcs: list[int] = []
    value = 0
    fresh = True
    for octet in content:
        if fresh and octet == 0x80:
            raise CsrMalformed(f"{what} is an object identifier with a padded arc")
        value = value << 7 | octet & 0x7F
        fresh = not octet & 0x80
        if fresh:
            arcs.append(value)
            value = 0
    first = min(arcs[0] // 40, 2)
    return ".".join(map(str, (first, arcs[0] - 40 * first, *arcs[1:])))
