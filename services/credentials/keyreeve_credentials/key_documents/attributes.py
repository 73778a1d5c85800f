"""Subject attributes and subject alternative names of a request: checked, encoded, and warned about."""

import ipaddress
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from cryptography import x509
from cryptography.x509.oid import NameOID

from keyreeve.errors import FieldInvalid, Violation

_LABEL = r"(?!-)[A-Za-z0-9-]{1,63}(?<!-)"
_DNS = re.compile(rf"(?=.{{1,253}}\Z)(\*\.)?({_LABEL}\.)*{_LABEL}\Z")
_EMAIL = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]{1,64}@(?P<host>.+)\Z")
_COUNTRY = re.compile(r"[A-Z]{2}\Z")
MOST_NAMES = 100

NO_NAMES = "there is no subject alternative name: many clients, XMPP clients among them, refuse such a certificate"


@dataclass(frozen=True, slots=True)
class Attributes:
    """Attributes of a request, as in `pki csr`; an empty one is left out."""

    common_name: str
    """CN."""
    organizational_unit: str = ""
    organization: str = ""
    locality: str = ""
    state: str = ""
    country: str = ""
    """C: two letters of ISO 3166."""
    email_address: str = ""
    names: tuple[str, ...] = ()
    """subjectAltName: DNS names, IP addresses and e-mail addresses."""


# In the order of a directory's path; the sizes are the upper bounds of RFC 5280, appendix A.1.
_PARTS = (
    ("country", NameOID.COUNTRY_NAME, 2),
    ("state", NameOID.STATE_OR_PROVINCE_NAME, 128),
    ("locality", NameOID.LOCALITY_NAME, 128),
    ("organization", NameOID.ORGANIZATION_NAME, 64),
    ("organizational_unit", NameOID.ORGANIZATIONAL_UNIT_NAME, 64),
    ("common_name", NameOID.COMMON_NAME, 64),
    ("email_address", NameOID.EMAIL_ADDRESS, 255),
)


def subject_of(attributes: Attributes) -> x509.Name:
    """Build the subject. Raises `FieldInvalid`."""
    if not attributes.common_name:
        raise refused("common_name", "required")
    return x509.Name(list(_parts(attributes)))


def _parts(attributes: Attributes) -> Iterator[x509.NameAttribute[str]]:
    for field, oid, most in _PARTS:
        text = getattr(attributes, field)
        if not text:
            continue
        if len(text) > most or not text.isprintable() or text != text.strip():
            raise refused(field, f"at most {most} printable characters are required, with no space at an end")
        if field == "country" and not _COUNTRY.match(text):
            raise refused(field, "two capital letters are required, such as GB")
        if field == "email_address" and not is_email(text):
            raise refused(field, "an e-mail address is required")
        yield x509.NameAttribute(oid, text)


def general_names(names: Sequence[str]) -> list[x509.GeneralName]:
    """Encode subject alternative names by their looks. Raises `FieldInvalid`."""
    if len(names) > MOST_NAMES:
        raise refused("names", f"at most {MOST_NAMES} are allowed")
    if len({name.casefold() for name in names}) != len(names):
        raise refused("names", "a name is given twice")
    return [_general_name(name, f"names[{i}]") for i, name in enumerate(names)]


def _general_name(text: str, field: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        pass
    if "@" in text and is_email(text):
        return x509.RFC822Name(text)
    if is_dns_name(text):
        return x509.DNSName(text)
    raise refused(field, "a DNS name, an IP address or an e-mail address is required")


def is_dns_name(text: str) -> bool:
    """Whether a text is a DNS name; `*` may be its first label."""
    return _DNS.match(text) is not None and not text.rpartition(".")[2].isdigit()


def is_email(text: str) -> bool:
    """Whether a text is an e-mail address."""
    found = _EMAIL.match(text)
    return found is not None and is_dns_name(found["host"])


def warnings_about(attributes: Attributes) -> list[str]:
    """Say what clients may refuse about a certificate with these attributes; the request is made nevertheless."""
    if not attributes.names:
        return [NO_NAMES]
    if attributes.common_name.casefold() not in {name.casefold() for name in attributes.names}:
        return [f"the subject alternative names do not contain the common name {attributes.common_name}"]
    return []


def refused(field: str, why: str) -> FieldInvalid:
    """Build the refusal of one field."""
    return FieldInvalid(f"{field}: {why}", violations=[Violation(field, why)])
