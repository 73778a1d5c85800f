"""An independent implementation of docs/names.md, with regular expressions and number ranges.

Written from the ABNF without code of the product, so that a mistake in either is found.
"""

import re
import socket

_LABEL = r"(?!..--)[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_LAST = rf"(?!0x[0-9a-f]*\Z)(?=[0-9-]*[a-z]){_LABEL}"
_HOST = rf"(?=.{{1,253}}\Z)(?:{_LABEL}\.)*{_LAST}"
_DNS = re.compile(rf"{_HOST}\Z|(?=.{{1,253}}\Z)\*\.(?:{_LABEL}\.)+{_LAST}\Z", re.ASCII)
_HOST_ONLY = re.compile(rf"{_HOST}\Z", re.ASCII)
_URI = re.compile(
    r"(?=.{1,2048}\Z)[a-z][a-z0-9+.-]{0,31}://(?P<host>[^/]+)(?:/(?!\.{1,2}(?:/|\Z))[A-Za-z0-9._-]{1,253})*\Z", re.ASCII
)
_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_EMAIL = re.compile(rf"(?=.{{1,254}}\Z)(?=[^@]{{1,64}}@){_ATOM}(?:\.{_ATOM})*@(?P<host>[^@]+)\Z", re.ASCII)

_REFUSED_4 = (
    (0x00000000, 0x00FFFFFF),
    (0xA9FE0000, 0xA9FEFFFF),
    (0xE0000000, 0xEFFFFFFF),
    (0xF0000000, 0xFFFFFFFF),
)
_REFUSED_6 = (
    (0x0, 0x0),
    (0x2, 0xFFFFFFFF),  # IPv4-compatible; ::1 alone is good
    (0xFFFF_0000_0000, 0xFFFF_FFFF_FFFF),
    (0xFFFF_0000_0000_0000, 0xFFFF_0000_FFFF_FFFF),
    (0x0064_FF9B << 96, (0x0064_FF9B << 96) + 0xFFFF_FFFF),
    (0x0064_FF9B_0001 << 80, (0x0064_FF9B_0002 << 80) - 1),
    (0x2001_0000 << 96, (0x2001_0001 << 96) - 1),
    (0x2002 << 112, (0x2003 << 112) - 1),
    (0xFE80 << 112, (0xFEC0 << 112) - 1),
    (0xFEC0 << 112, (0xFF00 << 112) - 1),
    (0xFF00 << 112, (1 << 128) - 1),
)


def accepts(name_type: str, text: str) -> bool:
    """Say whether the grammar of a type (`dns`, `ip`, `uri`, `email`) holds a text."""
    if name_type == "dns":
        return _DNS.match(text) is not None
    if name_type == "uri":
        found = _URI.match(text)
        return found is not None and _HOST_ONLY.match(found["host"]) is not None
    if name_type == "email":
        found = _EMAIL.match(text)
        return found is not None and _HOST_ONLY.match(found["host"]) is not None
    return _accepts_ip(text)


def _accepts_ip(text: str) -> bool:
    family = socket.AF_INET6 if ":" in text else socket.AF_INET
    try:
        packed = socket.inet_pton(family, text)
    except (OSError, ValueError):
        return False
    refused = _REFUSED_6 if family == socket.AF_INET6 else _REFUSED_4
    number = int.from_bytes(packed, "big")
    return socket.inet_ntop(family, packed) == text and not any(low <= number <= high for low, high in refused)
