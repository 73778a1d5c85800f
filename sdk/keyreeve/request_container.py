"""The container of a certificate request: DER, PEM, or what programs and editors make of PEM (RFC 7468).

Text outside the BEGIN and END lines is ignored, with a byte order mark, attributes and certificates. UTF-16, other line
ends, a missing BEGIN line and base64 in one line are read too. Anything else is named for what it is. A private key is
refused, so that a caller who reads a request with `request_der` never sends one.
"""

import base64
import binascii
import re
from collections.abc import Iterator

from keyreeve.errors import CsrMalformed

_PEM = re.compile(rb"-----BEGIN ([^\r\n-]{1,64})-----(.*?)-----END ([^\r\n-]{1,64})-----", re.DOTALL)
_BEGIN = re.compile(rb"-----BEGIN ([^\r\n-]{1,64})-----")
_PRIVATE = re.compile(
    rb"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY|---- BEGIN SSH2 [A-Z ]{0,20}PRIVATE KEY|PuTTY-User-Key-File-"
)
_JWK_TYPE = re.compile(rb"""(?:^|[\s{,"'])kty["']?\s*:""")
_JWK_SECRET = re.compile(rb"""(?:^|[\s{,"'])(?:d|k|priv)["']?\s*:\s*["']?[A-Za-z0-9_-]{20,}""")
"""The private member of a JSON Web Key (RFC 7518, section 6), in JSON or YAML; 128 bits are 22 characters."""
_JAVA_KEY_STORE = (b"\xfe\xed\xfe\xed", b"\xce\xce\xce\xce")
"""How JKS and JCEKS begin; only the password shows whether the entries are keys."""
_REQUESTS = frozenset({b"CERTIFICATE REQUEST", b"NEW CERTIFICATE REQUEST"})
_NAMED = {
    b"CERTIFICATE": "a certificate",
    b"X509 CERTIFICATE": "a certificate",
    b"TRUSTED CERTIFICATE": "a certificate",
    b"X509 CRL": "a certificate revocation list",
    b"PKCS7": "a PKCS #7 file with certificates",
    b"CMS": "a PKCS #7 file with certificates",
    b"PUBLIC KEY": "a public key",
    b"SSH2 PUBLIC KEY": "an SSH public key",
    b"PGP PUBLIC KEY BLOCK": "a PGP public key",
}
_PRIVATE_KEY = "a private key, which must never be sent: make a request with it (in PEM: `openssl req -new -key FILE`)"
_SHAPES = (
    (b"\x06\xa0", b"", "a PKCS #7 file with certificates"),
    (b"\x30\x04", b"", _PRIVATE_KEY),  # encrypted PKCS #8
    (b"\x30\x30\x03", b"\xa0\x02\x30\x30\x30\x30", "a certificate"),
    (b"\x30\x30\x03", b"\x02\x30\x30\x30\x30\x30", "a certificate"),
    (b"\x30\x30\x03", b"\x02\x30\x30\x17", "a certificate revocation list"),
    (b"\x30\x30\x03", b"\x02\x30\x30\x18", "a certificate revocation list"),
    (b"\x30\x30\x03", b"\x30\x30\x17", "a certificate revocation list"),
    (b"\x30\x03", b"\x06", "a public key"),
)
"""Tags of the outer members, tags of the first one's members, and what begins so."""
_SPACE = b" \t\r\n\x0b\x0c\x00"
_BASE64 = re.compile(rb"[A-Za-z0-9+/=\s]+\Z")


def request_der(data: bytes) -> bytes:
    """Return the DER in a request's container.

    It may still be no request: only files that are certainly something else are refused. Raises `CsrMalformed`, which
    names what the file holds.
    """
    if not data:
        raise CsrMalformed("the request is empty")
    if data[0] == 0x30:
        return _refuse_others(_without_trailing_space(data))
    text = as_ascii(data)
    if _is_private_text(text):
        beside = " beside the request" if any(label in _REQUESTS for label in _BEGIN.findall(text)) else ""
        raise CsrMalformed(f"the file holds {_PRIVATE_KEY}{beside}")
    found = [(begin, body, end) for begin, body, end in _PEM.findall(text) if begin in _REQUESTS]
    if len(found) > 1:
        raise CsrMalformed("the PEM file holds more than one request; send each alone")
    if found:
        return _refuse_others(_decoded(*found[0]))
    labels = list(dict.fromkeys(_BEGIN.findall(text)))
    if any(label in _REQUESTS for label in labels):
        raise CsrMalformed("the PEM object has no END line")
    if labels:
        named = ", ".join(_NAMED.get(label, ascii(label.decode("ascii", "replace"))) for label in labels[:4])
        raise CsrMalformed(f"the PEM file is no CERTIFICATE REQUEST, but {named}")
    return _refuse_others(_base64_alone(text, data))


def is_private_key(data: bytes) -> bool:
    """Whether a file is, or contains, a private key: PEM, DER, JWK, a form of PuTTY or SSH2, or a key store."""
    if _is_private_binary(data):
        return True
    text = as_ascii(data)
    if _is_private_text(text) or _is_private_text(text[::2]):
        return True
    compact = b"".join(text.split())
    if not _BASE64.match(compact):
        return False
    try:
        return _is_private_binary(base64.b64decode(compact + b"=" * (-len(compact) % 4)))
    except binascii.Error:
        return False


def _is_private_text(text: bytes) -> bool:
    return bool(_PRIVATE.search(text) or (_JWK_TYPE.search(text) and _JWK_SECRET.search(text)))


def _is_private_binary(data: bytes) -> bool:
    if data[:1] == b"\x30":
        return kind_of_der(data).startswith(("a private key", "a PKCS #12 file"))
    return data.startswith(_JAVA_KEY_STORE)


def as_ascii(data: bytes) -> bytes:
    """Return text in ASCII or a superset of it, without a byte order mark and with one kind of line end."""
    for mark, encoding in ((b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be")):
        if data.startswith(mark):
            return data[2:].decode(encoding, "replace").encode("utf-8").replace(b"\r", b"\n")
    start = data[:64]
    if len(start) > 8 and start[1::2].count(0) == len(start) // 2:
        return data.decode("utf-16-le", "replace").encode("utf-8").replace(b"\r", b"\n")
    if len(start) > 8 and start[0::2].count(0) == (len(start) + 1) // 2 and any(start):
        return data.decode("utf-16-be", "replace").encode("utf-8").replace(b"\r", b"\n")
    return data.removeprefix(b"\xef\xbb\xbf").replace(b"\r", b"\n")


def _decoded(begin: bytes, body: bytes, end: bytes) -> bytes:
    if end != begin:
        raise CsrMalformed("the PEM object's BEGIN and END lines have different labels")
    if b"Proc-Type:" in body or b"DEK-Info:" in body:
        raise CsrMalformed("the PEM object is encrypted")
    try:
        return base64.b64decode(b"".join(body.split()), validate=True)
    except binascii.Error:
        raise CsrMalformed("the PEM object is not base64 between its BEGIN and END lines (RFC 7468)") from None


def _base64_alone(text: bytes, data: bytes) -> bytes:
    """Decode base64 without a BEGIN line."""
    compact = b"".join(text.partition(b"-----END")[0].split())
    if compact[:1] == b"M" and _BASE64.match(compact):  # how base64 of a SEQUENCE begins
        try:
            return base64.b64decode(compact, validate=True)
        except binascii.Error:
            raise CsrMalformed("the file is base64 without a BEGIN line, and its base64 is broken") from None
    raise CsrMalformed(f"the file is no certificate request: {_look_of(data)}")


def _look_of(data: bytes) -> str:
    if is_private_key(data):
        return "it is a Java key store, which must never be sent: send the output of `keytool -certreq`"
    for start, what in (
        (b"ssh-", "it is an SSH public key"),
        (b"ecdsa-sha2-", "it is an SSH public key"),
        (b"PK\x03\x04", "it is a ZIP archive"),
        (b"\x1f\x8b", "it is a gzip archive"),
    ):
        if data.startswith(start):
            return what
    head = data[:200].lstrip(_SPACE).lower()
    if head.startswith((b"<!doctype", b"<html", b"<?xml")):
        return "it is a page of HTML or XML"
    return "its bytes begin neither like DER (a SEQUENCE) nor like PEM ('-----BEGIN CERTIFICATE REQUEST-----')"


def _without_trailing_space(data: bytes) -> bytes:
    try:
        _, _, end = _element(data, 0, len(data))
    except ValueError:
        return data
    return data[:end] if not data[end:].strip(_SPACE[:-1]) else data


def _refuse_others(der: bytes) -> bytes:
    kind = kind_of_der(der)
    if kind:
        raise CsrMalformed(f"the file is {kind}, not a certificate request")
    return der


def _element(data: bytes, at: int, end: int) -> tuple[int, int, int]:
    if at + 2 > end:
        raise ValueError
    tag, length, start = data[at], data[at + 1], at + 2
    if length > 0x7F:
        octets = length & 0x7F
        if not 1 <= octets <= 4 or start + octets > end:
            raise ValueError
        length = int.from_bytes(data[start : start + octets], "big")
        start += octets
    if start + length > end:
        raise ValueError
    return tag, start, start + length


def _members(data: bytes, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    while start < end:
        tag, content, start = _element(data, start, end)
        yield tag, content, start


def outer_tags(der: bytes) -> bytes:
    """Return the tags of the members of a SEQUENCE; empty when it is none."""
    try:
        tag, start, end = _element(der, 0, len(der))
        return bytes(tag for tag, _, _ in _members(der, start, end)) if tag == 0x30 else b""
    except ValueError:
        return b""


def kind_of_der(data: bytes) -> str:
    """Name DER that is certainly no request; empty when it may be one."""
    try:
        _, start, end = _element(data, 0, len(data))
        members = list(_members(data, start, end))[:12]
        inner = list(_members(data, *members[0][1:]))[:12] if members and members[0][0] == 0x30 else []
    except ValueError:
        return ""
    tags = bytes(tag for tag, _, _ in members)
    first = data[members[0][1] : members[0][2]] if members else b""
    inner_tags = bytes(tag for tag, _, _ in inner)
    if tags.startswith((b"\x02\x30\x04", b"\x02\x04")) or (tags[:6] == b"\x02" * 6 and first in {b"\x00", b"\x01"}):
        return _PRIVATE_KEY  # PKCS #8, SEC 1, PKCS #1 and DSA
    if tags.startswith(b"\x02\x30") and first == b"\x03":
        return "a PKCS #12 file (PFX) with a private key, which must never be sent"
    for whole, start_of_first, what in _SHAPES:
        if tags.startswith(whole) and inner_tags.startswith(start_of_first):
            return what
    return ""
