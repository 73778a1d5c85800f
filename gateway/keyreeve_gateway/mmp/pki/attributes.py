"""The attributes of a subject, as `CN:web.example.com`."""

from typing import TYPE_CHECKING

from keyreeve_gateway.grammar.model import Argument, Source
from keyreeve_gateway.grammar.parsed import Parsed
from keyreeve_gateway.grammar.parsing import UsageProblem

if TYPE_CHECKING:
    from keyreeve.file_values import RequestAttributes

BASENAME = Argument("key/cert basename", "Name of the new files without an extension: letters, digits, - and _.")
ATTRIBUTES = (
    Argument("CN:value", "Common name: the fully qualified name of the server."),
    Argument("OU:value", "Organizational unit.", required=False),
    Argument("O:value", "Organization.", required=False),
    Argument("ST:value", "State, province or county.", required=False),
    Argument("C:value", "Country: two letters.", required=False),
    Argument("L:value", "Locality.", required=False, source=Source.UNDOCUMENTED),
    Argument("emailAddress:value", "E-mail address.", required=False, source=Source.UNDOCUMENTED),
    Argument("subjectAltName:value", "DNS names, IP addresses and e-mail addresses, with commas.", required=False),
)
_FIELDS = {
    "CN": "common_name",
    "OU": "organizational_unit",
    "O": "organization",
    "ST": "state",
    "C": "country",
    "L": "locality",
    "emailAddress": "email_address",
}
_NAMES = "subjectAltName"


def check_attributes(parsed: Parsed) -> None:
    """Raise `UsageProblem` for attributes that are none."""
    attributes_of(parsed.arguments[1:])


def attributes_of(arguments: tuple[str, ...]) -> "RequestAttributes":
    """Parse the attributes, in any order. Raises `UsageProblem`."""
    from keyreeve.file_values import RequestAttributes

    values: dict[str, str] = {}
    names: tuple[str, ...] = ()
    for argument in arguments:
        name, colon, value = argument.partition(":")
        if not colon or not value or name not in {*_FIELDS, _NAMES}:
            raise UsageProblem(f"{argument} is not an attribute such as CN:web.example.com")
        if name == _NAMES and not names:
            names = tuple(value.split(","))
        elif name != _NAMES and _FIELDS[name] not in values:
            values[_FIELDS[name]] = value
        else:
            raise UsageProblem(f"{name} is given twice")
    if "common_name" not in values:
        raise UsageProblem("CN is missing")
    return RequestAttributes(**values, names=names)
