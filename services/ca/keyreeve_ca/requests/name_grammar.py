"""The grammar of names. A name is accepted as it is, or refused; it is never changed.

Described in docs/names.md. Sources: RFC 1034 section 3.5 and RFC 5890 section 2.3.1 (DNS), RFC 3986 (URI), RFC 5321
section 4.1.2 (mailbox), RFC 5280 section 4.2.1.6 (encoding in a certificate).
"""

import ipaddress
import string

from keyreeve.values import Name, NameType

MAX_DNS_BYTES = 253
MAX_LABEL_BYTES = 63
MAX_URI_BYTES = 2048
MAX_SCHEME_BYTES = 32
MAX_SEGMENT_BYTES = 253
MAX_EMAIL_BYTES = 254
MAX_LOCAL_PART_BYTES = 64

_LOWER = frozenset(string.ascii_lowercase)
_DIGITS = frozenset(string.digits)
_HEX = frozenset("0123456789abcdef")
_LDH = _LOWER | _DIGITS | {"-"}
_SCHEME = _LOWER | _DIGITS | frozenset("+-.")
_SEGMENT = frozenset(string.ascii_letters + string.digits + "._-")
_ATEXT = frozenset(string.ascii_letters + string.digits + "!#$%&'*+-/=?^_`{|}~")

_REFUSED_NETWORKS = tuple(
    (ipaddress.ip_network(network), reason)
    for network, reason in (
        ("0.0.0.0/8", "it means 'this network', not a machine"),
        ("169.254.0.0/16", "a link-local address names another machine on each link"),
        ("224.0.0.0/4", "a multicast address names no single machine"),
        ("240.0.0.0/4", "it is reserved, or the broadcast address"),
        ("::/128", "it is the unspecified address"),
        ("::ffff:0:0/96", "an IPv4-mapped address is a second spelling of an IPv4 address"),
        ("::ffff:0:0:0/96", "a translated IPv4 address is a second spelling of an IPv4 address"),
        ("64:ff9b::/96", "a NAT64 address is a second spelling of an IPv4 address"),
        ("64:ff9b:1::/48", "a NAT64 address is a second spelling of an IPv4 address"),
        ("2001::/32", "a Teredo address is a second spelling of an IPv4 address"),
        ("2002::/16", "a 6to4 address is a second spelling of an IPv4 address"),
        ("fe80::/10", "a link-local address names another machine on each link"),
        ("fec0::/10", "site-local addresses were withdrawn"),
        ("ff00::/8", "a multicast address names no single machine"),
    )
)
_IPV4_COMPATIBLE = ipaddress.ip_network("::/96")
_LOOPBACK_6 = ipaddress.ip_address("::1")


def problem_with(name: Name) -> str | None:
    """Return what is wrong with a name, or None when the grammar of its type accepts it."""
    text = name.value
    if not text:
        return "it is empty"
    if name.type is NameType.DNS:
        return _wildcard_problem(text) if text[0] == "*" else dns_problem(text)
    if name.type is NameType.IP:
        return _ip_problem(text)
    if name.type is NameType.URI:
        return _uri_problem(text)
    return _email_problem(text)


def dns_problem(text: str) -> str | None:
    """Return what is wrong with a DNS name without a wildcard, or None."""
    if len(text) > MAX_DNS_BYTES:
        return f"it has {len(text)} characters; a DNS name has at most {MAX_DNS_BYTES}"
    labels = text.split(".")
    for label in labels:
        problem = _label_problem(label)
        if problem:
            return problem
    last = labels[-1]
    if _LOWER.isdisjoint(last) or (last[:2] == "0x" and _HEX.issuperset(last[2:])):
        return f"its last label '{last}' is or looks like a number, so programs may read the name as an IP address"
    return None


def _label_problem(label: str) -> str | None:
    if not label:
        return "it has an empty label: a dot at an end, or two in a row"
    if not _LDH.issuperset(label):
        return _character_problem(label, _LDH, "a DNS label", "lower-case letters, digits and '-'")
    if len(label) > MAX_LABEL_BYTES:
        return f"the label '{label[:16]}...' has {len(label)} characters; a label has at most {MAX_LABEL_BYTES}"
    if label[0] == "-" or label[-1] == "-":
        return f"the label '{label}' begins or ends with '-'"
    if label[2:4] == "--":
        return f"the label '{label}' has '--' in its third and fourth place; internationalized names are not supported"
    return None


def _wildcard_problem(text: str) -> str | None:
    if not text.startswith("*."):
        return "'*' must be the whole first label"
    rest = text[2:]
    if len(text) > MAX_DNS_BYTES:
        return f"it has {len(text)} characters; a DNS name has at most {MAX_DNS_BYTES}"
    if "." not in rest:
        return "a wildcard needs at least two labels after '*'"
    return dns_problem(rest)


def _ip_problem(text: str) -> str | None:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return "it is not an IP address"
    if str(address) != text:
        return f"the canonical spelling of this address is '{address}'"
    if isinstance(address, ipaddress.IPv6Address) and address.scope_id is not None:
        return "an address with a zone belongs to one machine's view of its links"
    for network, reason in _REFUSED_NETWORKS:
        if address in network:
            return reason
    if address in _IPV4_COMPATIBLE and address != _LOOPBACK_6:
        return "an IPv4-compatible address is a second spelling of an IPv4 address"
    return None


def _uri_problem(text: str) -> str | None:
    if len(text) > MAX_URI_BYTES:
        return f"it has {len(text)} characters; a URI has at most {MAX_URI_BYTES}"
    scheme, separator, rest = text.partition("://")
    if not separator:
        return "it is not of the form scheme://host/path"
    if not scheme or scheme[0] not in _LOWER or len(scheme) > MAX_SCHEME_BYTES or not _SCHEME.issuperset(scheme):
        return "its scheme is not a lower-case letter and at most 31 lower-case letters, digits, '+', '-' and '.'"
    host, *segments = rest.split("/")
    problem = dns_problem(host)
    if problem:
        return f"its host is not a DNS name: {problem}"
    return next(filter(None, map(_segment_problem, segments)), None)


def _segment_problem(segment: str) -> str | None:
    if not segment:
        return "its path has an empty segment"
    if not _SEGMENT.issuperset(segment):
        return _character_problem(segment, _SEGMENT, "a path segment", "letters, digits, '.', '-' and '_'")
    if segment in {".", ".."}:
        return f"its path has the segment '{segment}'"
    if len(segment) > MAX_SEGMENT_BYTES:
        return f"a path segment has {len(segment)} characters; it may have {MAX_SEGMENT_BYTES}"
    return None


def _email_problem(text: str) -> str | None:
    if len(text) > MAX_EMAIL_BYTES:
        return f"it has {len(text)} characters; an e-mail address has at most {MAX_EMAIL_BYTES}"
    local, separator, domain = text.partition("@")
    if not separator:
        return "it has no '@'"
    if len(local) > MAX_LOCAL_PART_BYTES:
        return f"its local part has {len(local)} characters; it may have {MAX_LOCAL_PART_BYTES}"
    for atom in local.split("."):
        if not atom:
            return "its local part is empty, or has a dot at an end or two in a row"
        if not _ATEXT.issuperset(atom):
            return _character_problem(atom, _ATEXT, "a local part", "letters, digits, '.' and !#$%&'*+-/=?^_`{|}~")
    problem = dns_problem(domain)
    return f"its domain is not a DNS name: {problem}" if problem else None


def _character_problem(text: str, allowed: frozenset[str], where: str, what: str) -> str:
    found = next(c for c in text if c not in allowed)
    # The character is shown as its code point: the text of an error must not carry control characters onwards.
    shown = f"'{found}'" if "!" <= found <= "~" else f"U+{ord(found):04X}"
    return f"{where} holds {what} only, and this one holds {shown}"
