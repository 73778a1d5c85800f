"""Names of owners and resources: the TFN names of the legacy products, by a written grammar.

    tfn      = local / ldap / dns / user / domain
    local    = [".../_ens/"] rdn *("/" rdn)                          ; an object of the local repository: o=... first
    ldap     = ".../_service/sco/tta/ldapcache/" rdn *("," rdn)      ; an object of the directory, in LDAP's order
    dns      = ".../_dns/" host                                      ; a server on the network
    user     = ".../_user/" text                                     ; a UNIX user or group
    domain   = ".../_wns/" text                                      ; a Windows domain
    rdn      = type "=" value
    type     = ALPHA *(ALPHA / DIGIT / "-")
    value    = 1*(any printable character but "/", "*", "," in ldap, and "=")
    text     = 1*(any printable character but "*" and backslash)
    host     = label *("." label)                                    ; letters, digits and hyphens
    owner    = "anonymous" / "ldap" / local / ldap / user / domain
    resource = "" / local / dns / domain

A name has at most 512 characters in Unicode's form NFC, and no space at either end of a part. `.../_ens/` may be left out;
everything else is refused, never corrected. Two names are the same when they differ in the case of letters alone.
"""

import functools
import re
import unicodedata
from dataclasses import dataclass
from enum import StrEnum

from keyreeve.errors import FieldInvalid, Violation

MOST_CHARACTERS = 512
_REMEMBERED = 4_096
"""Good names that need not be checked again: a check takes 15 µs, and a launch names three."""
ANONYMOUS, LDAP = "anonymous", "ldap"

_TYPE = r"[A-Za-z][A-Za-z0-9-]*"
_RDN = re.compile(rf"{_TYPE}=[^=/*]+\Z")
_LDAP_RDN = re.compile(rf"{_TYPE}=[^=/*,]+\Z")
_HOST = re.compile(
    r"(?=.{1,253}\Z)[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*\Z"
)


class Space(StrEnum):
    """The name space of a name: the beginning that it is written with."""

    LOCAL = ".../_ens/"
    LDAP = ".../_service/sco/tta/ldapcache/"
    DNS = ".../_dns/"
    USER = ".../_user/"
    DOMAIN = ".../_wns/"


OWNER_SPACES = frozenset({Space.LOCAL, Space.LDAP, Space.USER, Space.DOMAIN})
RESOURCE_SPACES = frozenset({Space.LOCAL, Space.DNS, Space.DOMAIN})


@dataclass(frozen=True, slots=True)
class ObjectName:
    """A checked name."""

    text: str
    """With its beginning, in the case it was given in."""

    @property
    def key(self) -> str:
        """What compares equal for names that are the same."""
        return self.text.casefold()

    def __str__(self) -> str:
        return self.text


LOGIN = ObjectName("")
"""The resource of an owner's login password."""


def parse_owner(text: str, field: str = "owner") -> ObjectName:
    """Check an owner. Raises `FieldInvalid`."""
    if text in {ANONYMOUS, LDAP}:
        return ObjectName(text)
    return parse_tfn(text, OWNER_SPACES, field)


def parse_resource(text: str, field: str = "resource") -> ObjectName:
    """Check a resource; the empty one is the login password. Raises `FieldInvalid`."""
    return parse_tfn(text, RESOURCE_SPACES, field) if text else LOGIN


@functools.lru_cache(_REMEMBERED)
def parse_tfn(text: str, spaces: frozenset[Space], field: str) -> ObjectName:
    """Check a TFN name of one of these name spaces. Raises `FieldInvalid`."""
    if not text:
        raise _refused(field, "a name is required")
    if len(text) > MOST_CHARACTERS:
        raise _refused(field, f"a name has at most {MOST_CHARACTERS} characters")
    if not text.isprintable() or not unicodedata.is_normalized("NFC", text):
        raise _refused(field, "printable characters in Unicode's form NFC are required")
    space = next((one for one in Space if text.startswith(one.value)), None)
    if space is None and text.startswith("..."):
        raise _refused(field, f"unknown name space; known: {', '.join(one.value for one in Space)}")
    whole = text if space is not None else Space.LOCAL.value + text
    space = space or Space.LOCAL
    if space not in spaces:
        raise _refused(field, f"a name of one of {', '.join(sorted(one.value for one in spaces))} is required")
    flaw = _flaw(space, whole.removeprefix(space.value))
    if flaw:
        raise _refused(field, flaw)
    return ObjectName(whole)


def fold_pattern(text: str, field: str) -> str:
    """Check a search text with `*` wildcards, and fold it. Raises `FieldInvalid`."""
    if len(text) > MOST_CHARACTERS or not text.isprintable():
        raise _refused(field, f"at most {MOST_CHARACTERS} printable characters are required")
    return text.casefold()


def _flaw(space: Space, rest: str) -> str:
    if space in {Space.LOCAL, Space.LDAP}:
        pattern, separator = (_RDN, "/") if space is Space.LOCAL else (_LDAP_RDN, ",")
        parts = rest.split(separator)
        if not all(pattern.match(part) and _is_trimmed(part.partition("=")[2]) for part in parts):
            return f"parts such as o=organization, separated by {separator!r}, are required"
        if space is Space.LOCAL and not parts[0].casefold().startswith(("o=", "dc=")):
            return "the first part names the organization: o=... or dc=..."
        return ""
    if space is Space.DNS:
        return "" if _HOST.match(rest) else "a DNS name is required"
    if not rest or "*" in rest or "\\" in rest or not all(map(_is_trimmed, rest.split("/"))):
        return "a name without '*' and backslashes, and without empty parts, is required"
    return ""


def _is_trimmed(part: str) -> bool:
    return bool(part) and part == part.strip()


def _refused(field: str, why: str) -> FieldInvalid:
    return FieldInvalid(f"{field}: {why}", violations=[Violation(field, why)])
