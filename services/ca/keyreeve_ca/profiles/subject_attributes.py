"""Subject attributes beside the CN: their OIDs, and which text each can hold (RFC 5280, appendix A.1; X.520)."""

import re

from keyreeve_ca.profiles.profile import SubjectAttribute

ATTRIBUTE_OIDS = {
    "2.5.4.6": SubjectAttribute.C,
    "2.5.4.8": SubjectAttribute.ST,
    "2.5.4.7": SubjectAttribute.L,
    "2.5.4.10": SubjectAttribute.O,
    "2.5.4.11": SubjectAttribute.OU,
    "2.5.4.5": SubjectAttribute.SERIAL_NUMBER,
    "1.2.840.113549.1.9.1": SubjectAttribute.EMAIL_ADDRESS,
}
_MAX_CHARACTERS = {
    SubjectAttribute.ST: 128,
    SubjectAttribute.L: 128,
    SubjectAttribute.O: 64,
    SubjectAttribute.OU: 64,
    SubjectAttribute.SERIAL_NUMBER: 64,
    SubjectAttribute.EMAIL_ADDRESS: 255,
}
_COUNTRY = re.compile(r"[A-Z]{2}\Z")
_PRINTABLE_STRING = re.compile(r"[A-Za-z0-9 '()+,\-./:=?]+\Z")
_MAILBOX = re.compile(r"[!-?A-~]+@[a-z0-9.-]+\Z")


def problem_with_attribute(attribute: SubjectAttribute, text: str) -> str | None:
    """Return why an attribute cannot hold a text; None when it can."""
    if attribute is SubjectAttribute.C:
        return None if _COUNTRY.match(text) else "a country is two upper-case letters (ISO 3166)"
    if len(text) > _MAX_CHARACTERS[attribute]:
        return f"it has {len(text)} characters; {attribute} may have {_MAX_CHARACTERS[attribute]}"
    if not text.strip() or not text.isprintable():
        return "it is empty, or holds a character that cannot be printed"
    if attribute is SubjectAttribute.SERIAL_NUMBER and not _PRINTABLE_STRING.match(text):
        return "it holds a character that a PrintableString does not have"
    if attribute is SubjectAttribute.EMAIL_ADDRESS and not _MAILBOX.match(text):
        return "it is no mailbox in ASCII"
    return None
