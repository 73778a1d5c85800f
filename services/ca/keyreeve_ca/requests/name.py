"""One subject alternative name: its type and its text in the only spelling that is accepted (grammar: docs/names.md)."""

from dataclasses import dataclass
from enum import StrEnum


class NameType(StrEnum):
    """The types of GeneralName (RFC 5280, 4.2.1.6) that a profile can allow; every other type is refused."""

    DNS = "dns"
    IP = "ip"
    URI = "uri"
    EMAIL = "email"


@dataclass(frozen=True, slots=True, order=True)
class Name:
    """A name of a type. An IP address is held in the text form of `ipaddress`, whatever its encoding was."""

    type: NameType
    value: str

    def __str__(self) -> str:
        return f"{self.type}:{self.value}"
