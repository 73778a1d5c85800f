"""One subject alternative name: its type and its canonical text (grammar: docs/names.md)."""

from dataclasses import dataclass
from enum import StrEnum


class NameType(StrEnum):
    """The GeneralName types (RFC 5280, 4.2.1.6) that a profile can allow; all others are refused."""

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
