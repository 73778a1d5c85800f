"""What the final check reads of a certificate: its elements in strict DER, and its names against the plan.

It shares no code with what wrote them.
"""

import calendar
import ipaddress
import re
from collections import Counter

from keyreeve.values import Hierarchy, Name
from keyreeve_ca.profiles.profile import Profile

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


_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_HOST = rf"(?:{_LABEL}\.)*{_LABEL}"
_DNS = re.compile(rf"(?=.{{1,253}}\Z)(?=(?:.*\.)?[^.]*[a-z][^.]*\Z)(?:\*\.)?{_HOST}\Z", re.ASCII)
_URI = re.compile(
    rf"(?=.{{1,2048}}\Z)[a-z][a-z0-9+.-]*://({_HOST})((?:/(?!\.\.?(?:/|\Z))[A-Za-z0-9._-]+)*)\Z", re.ASCII
)
_EMAIL = re.compile(rf"(?=.{{1,254}}\Z)[!#$%&'*+/=?^_`{{|}}~.A-Za-z0-9-]{{1,64}}@{_HOST}\Z", re.ASCII)
_TYPE_OF_TAG = {0x82: "dns", 0x86: "uri", 0x87: "ip", 0x81: "email"}


class NamesCheck:
    """Checks the subject alternative names of one profile's certificates from one authority."""

    def __init__(
        self, profile: Profile, hierarchy: Hierarchy, trust_domain: str, name_constraints: bytes | None
    ) -> None:
        self._trust_domain = trust_domain
        self._control = hierarchy is Hierarchy.CONTROL
        self._reserved = () if profile.may_use_reserved_names else (f"svc.{trust_domain}", f"probe.{trust_domain}")
        self._minimum = profile.minimum_names
        rules = (("dns", profile.dns), ("uri", profile.uri), ("ip", profile.ip), ("email", profile.email))
        self._maximum = {kind: rule.maximum for kind, rule in rules if rule is not None}
        self._wildcards = profile.dns is not None and profile.dns.wildcards
        self._networks = profile.ip.networks if profile.ip else ()
        self._patterns = {
            "dns": _either(profile.dns.patterns if profile.dns else (), trust_domain),
            "uri": _either(profile.uri.templates if profile.uri else (), trust_domain),
            "email": _either(profile.email.domains if profile.email else (), trust_domain),
        }
        self._permitted, self._excluded = _read_constraints(name_constraints)

    def check(self, value: bytes, planned: tuple[Name, ...]) -> None:
        """Raise `Malformed` unless an encoded GeneralNames holds exactly the planned names, and all are permitted."""
        found = _read_names(value)
        if found != [(name.type, name.value) for name in planned]:
            raise Malformed("the names are not the planned ones")
        if len(found) < max(self._minimum, 1) or len(set(found)) != len(found):
            raise Malformed("too few names, or one twice")
        counts = Counter(kind for kind, _ in found) if len(found) > 1 else {found[0][0]: 1}
        for kind, count in counts.items():
            if count > self._maximum.get(kind, 0):
                raise Malformed(f"more names of type {kind} than the profile allows")
        for kind, text in found:
            if kind == "dns":
                self._check_dns(text)
            elif kind == "uri":
                self._check_uri(text)
            elif kind == "email":
                self._check_email(text)
            else:
                self._check_ip(text)

    def _check_dns(self, text: str) -> None:
        if not _DNS.match(text) or not self._patterns["dns"].match(text):
            raise Malformed("a DNS name that the profile does not allow")
        if text[0] == "*" and not self._wildcards:
            raise Malformed("a wildcard")
        for suffix in self._reserved:
            if _covers(suffix, text):
                raise Malformed("a DNS name that is reserved to services")
        if self._permitted["dns"] and not any(_below(text, subtree) for subtree in self._permitted["dns"]):
            raise Malformed("a DNS name that the authority is not permitted")
        if any(_covers(subtree, text) for subtree in self._excluded["dns"]):
            raise Malformed("a DNS name that the authority is excluded from")

    def _check_uri(self, text: str) -> None:
        parts = _URI.match(text)
        if parts is None or not self._patterns["uri"].match(text):
            raise Malformed("a URI that the profile does not allow")
        host = parts[1]
        # Identities of our trust domain come from the control hierarchy alone, and nothing else does.
        if self._control:
            if host != self._trust_domain or not text.startswith("spiffe://") or text != text.lower():
                raise Malformed("a URI that is no identity of this control plane")
            if self._reserved and not parts[2].startswith(("/members/", "/workloads/")):
                raise Malformed("an identity that is reserved to services and people")
        elif host == self._trust_domain:
            raise Malformed("a URI that spells an identity of the control plane")
        if self._permitted["uri"] and not any(_host_matches(host, subtree) for subtree in self._permitted["uri"]):
            raise Malformed("a URI that the authority is not permitted")
        if any(_host_matches(host, subtree) for subtree in self._excluded["uri"]):
            raise Malformed("a URI that the authority is excluded from")

    def _check_email(self, text: str) -> None:
        if not _EMAIL.match(text) or not self._patterns["email"].match(text.rpartition("@")[2]):
            raise Malformed("an e-mail address that the profile does not allow")

    def _check_ip(self, text: str) -> None:
        address = ipaddress.ip_address(text)
        if not any(address in network for network in self._networks):
            raise Malformed("an IP address that the profile does not allow")


def _read_names(value: bytes) -> list[tuple[str, str]]:
    position, end = enter_whole(value, SEQUENCE)
    found = []
    while position < end:
        tag, start, position = element(value, position, end)
        kind = _TYPE_OF_TAG.get(tag)
        content = value[start:position]
        if kind is None or (not content.isascii() and kind != "ip"):
            raise Malformed("a name of an unknown type, or not in ASCII")
        found.append((kind, _address(content) if kind == "ip" else content.decode("ascii")))
    return found


def _address(packed: bytes) -> str:
    if len(packed) not in {4, 16}:
        raise Malformed("an IP address")
    return str(ipaddress.ip_address(packed))


def _either(patterns: tuple[str, ...], trust_domain: str) -> re.Pattern[str]:
    """Compile patterns to one expression: `*` one label, `**` any number, a variable one or more characters."""
    translated = []
    for pattern in patterns:
        pieces = re.split(r"(\{[^}]*\}|\*\*|\*)", pattern)
        translated.append("".join(_translate(piece, trust_domain) for piece in pieces))
    return re.compile(rf"(?:{'|'.join(translated)})\Z" if translated else r"(?!)")


def _translate(piece: str, trust_domain: str) -> str:
    if piece == "*":
        return r"[^.]+"
    if piece == "{trust_domain}":
        return re.escape(trust_domain)
    return ".+" if piece == "**" or piece.startswith("{") else re.escape(piece)


def _below(name: str, subtree: str) -> bool:
    """Return whether a name, and everything it matches, lies in a DNS subtree."""
    return name == subtree or name.endswith("." + subtree)


def _covers(subtree: str, name: str) -> bool:
    """Return whether a name matches anything in a DNS subtree.

    `*.example.test` matches `svc.example.test`.
    """
    return _below(name, subtree) or (name[:2] == "*." and subtree.partition(".")[2] == name[2:])


def _host_matches(host: str, constraint: str) -> bool:
    """Compare hosts as RFC 5280, 4.2.1.10, does for URIs: exactly, or below a leading dot."""
    return host.endswith(constraint) if constraint[0] == "." else host == constraint


def _read_constraints(value: bytes | None) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """Read a CA's permitted and excluded subtrees by type.

    Raises `Malformed` for types that are not known here.
    """
    permitted: dict[str, list[str]] = {"dns": [], "uri": []}
    excluded: dict[str, list[str]] = {"dns": [], "uri": []}
    if value is None:
        return permitted, excluded
    position, end = enter_whole(value, SEQUENCE)
    while position < end:
        tag, subtree, position = element(value, position, end)
        into = {0xA0: permitted, 0xA1: excluded}.get(tag)
        while subtree < position:
            start, subtree = enter(value, subtree, position, SEQUENCE)
            kind, text, stop = element(value, start, subtree)
            name_type = _TYPE_OF_TAG.get(kind)
            if into is None or name_type not in {"dns", "uri"} or stop != subtree:
                raise Malformed("name constraints of a kind that is not known here")
            into[str(name_type)].append(value[text:stop].decode("ascii"))
    return permitted, excluded
