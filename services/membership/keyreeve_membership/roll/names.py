"""Rules for what describes a server: names, addresses, releases; no I/O."""

import re

from keyreeve.errors import FieldInvalid, Violation

_LABEL = r"(?!..--)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
_DNS_NAME = re.compile(rf"(?=.{{1,253}}\Z)({_LABEL}\.)*(?=[^.]*[a-z]){_LABEL}\Z")
_IPV4 = re.compile(
    r"(?:(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])\.){3}(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])\Z"
)
_IPV6 = re.compile(r"\[[0-9a-f:]{2,39}\]\Z")
_ARRAY_ID = re.compile(r"[a-z]([a-z0-9-]{0,46}[a-z0-9])?\Z")
_RELEASE = re.compile(r"[0-9]{1,6}(\.[0-9A-Za-z_-]{1,32}){1,5}\Z")
_BOOT_ID = re.compile(r"[A-Za-z0-9-]{16,64}\Z")
MOST_EXTERNAL_NAMES = 32
MAX_PORT = 65_535


def check_member_name(name: str, field: str) -> str:
    """Return a peer DNS name. Raises `FieldInvalid`."""
    if not _DNS_NAME.match(name):
        raise _invalid(field, "a peer DNS name in lower case is required, such as web-1.example.com")
    return name


def check_array_id(array_id: str, field: str = "array_id") -> str:
    """Return the id of an array. Raises `FieldInvalid`."""
    if not _ARRAY_ID.match(array_id):
        raise _invalid(field, "1-48 lower-case letters, digits and hyphens, starting with a letter")
    return array_id


def check_address(address: str, field: str) -> str:
    """Return `host:port`. Raises `FieldInvalid`."""
    host, _, port = address.rpartition(":")
    sound = _DNS_NAME.match(host) or _IPV4.match(host) or _IPV6.match(host)
    if not sound or not re.fullmatch(r"[1-9][0-9]{0,4}", port) or int(port) > MAX_PORT:
        raise _invalid(field, "a host and a port are required, such as 10.0.0.1:5427")
    return address


def check_release(release: str, field: str) -> str:
    """Return a release. Raises `FieldInvalid`."""
    if not _RELEASE.match(release):
        raise _invalid(field, "a release is required, such as 5.40.908")
    return release


def check_external_names(names: tuple[str, ...], field: str) -> tuple[str, ...]:
    """Return external names. Raises `FieldInvalid`."""
    if len(names) > MOST_EXTERNAL_NAMES or len(set(names)) != len(names):
        raise _invalid(field, f"at most {MOST_EXTERNAL_NAMES} different names")
    for name in names:
        if not _DNS_NAME.match(name):
            raise _invalid(field, "DNS names in lower case are required")
    return names


def check_boot_id(boot_id: str, field: str) -> str:
    """Return the id of a start of an agent. Raises `FieldInvalid`."""
    if not _BOOT_ID.match(boot_id):
        raise _invalid(field, "16 to 64 letters, digits and hyphens are required")
    return boot_id


def release_family(release: str) -> tuple[str, ...]:
    """The part of a release that all members of an array share: its first two numbers."""
    return tuple(release.split(".")[:2])


def default_array_id(member: str, number: str) -> str:
    """An id for the array of a new server: its first label and a number."""
    label = member.split(".", 1)[0]
    start = label if label[:1].isalpha() else f"a{label}"
    return f"{start[:30].rstrip('-')}-{number}"


def _invalid(field: str, description: str) -> FieldInvalid:
    return FieldInvalid(f"{field}: {description}", violations=[Violation(field, description)])
