"""The final check of a subject: its attributes against the plan and the profile.

It shares no code with what wrote them.
"""

import re

from keyreeve_ca.certificates.final_reading import OID, SEQUENCE, SET, Malformed, enter
from keyreeve_ca.certificates.plan import CertificatePlan
from keyreeve_ca.profiles.profile import Profile

_COMMON_NAME = bytes.fromhex("550403")
_MAX_COMMON_NAME = 64
# Content octets of the OID -> name, string type and longest text (RFC 5280, appendix A.1).
_ATTRIBUTES = {
    bytes.fromhex("550406"): ("C", 0x13, 2),
    bytes.fromhex("550408"): ("ST", 0x0C, 128),
    bytes.fromhex("550407"): ("L", 0x0C, 128),
    bytes.fromhex("55040a"): ("O", 0x0C, 64),
    bytes.fromhex("55040b"): ("OU", 0x0C, 64),
    bytes.fromhex("550405"): ("serialNumber", 0x13, 64),
    bytes.fromhex("2a864886f70d010901"): ("emailAddress", 0x16, 255),
}


class SubjectCheck:
    """Checks the subjects of one profile's certificates."""

    def __init__(self, profile: Profile) -> None:
        self.fixed = {(str(attribute), text) for attribute, text in profile.fixed_attributes}
        self._kept = frozenset(str(attribute) for attribute in profile.kept_attributes)
        self._texts = [
            re.compile(".+".join(re.escape(part) for part in pattern.split("*")) + r"\Z")
            for pattern in ([] if "server_auth" in profile.extended_key_usage else profile.common_names)
        ]

    def check(self, content: bytes, plan: CertificatePlan) -> str | None:
        """Return the CN of a subject that is not empty; its attributes are the planned ones."""
        common_name: str | None = None
        found: list[tuple[str, str]] = []
        position, end = 0, len(content)
        while position < end:
            if common_name is not None:
                raise Malformed("something follows the common name")
            start, position = enter(content, position, end, SET)
            start, stop = enter(content, start, position, SEQUENCE)
            oid, value = enter(content, start, stop, OID)
            if stop != position:
                raise Malformed("a part of the subject with several attributes")
            kind = content[oid:value]
            if kind == _COMMON_NAME:
                common_name = _text(content, value, stop, 0x0C, _MAX_COMMON_NAME)
                continue
            name, tag, longest = _ATTRIBUTES.get(kind, ("", 0, 0))
            found.append((name, _text(content, value, stop, tag, longest)))
        if found != [(str(attribute), text) for attribute, text in plan.attributes]:
            raise Malformed("the attributes of the subject are not the planned ones")
        if not self.fixed <= set(found) or any(
            name not in self._kept and (name, text) not in self.fixed for name, text in found
        ):
            raise Malformed("an attribute of the subject that the profile does not have")
        return common_name

    def check_text(self, common_name: str) -> None:
        """Check a CN that is no DNS name of the certificate."""
        if not common_name.isprintable() or not any(text.match(common_name) for text in self._texts):
            raise Malformed("the common name is neither one of the DNS names nor a text that the profile allows")


def _text(content: bytes, start: int, end: int, tag: int, longest: int) -> str:
    first, last = enter(content, start, end, tag)
    try:
        text = content[first:last].decode("ascii" if tag != 0x0C else "utf-8")
    except UnicodeDecodeError:
        raise Malformed("text of the subject") from None
    if last != end or not 1 <= len(text) <= longest:
        raise Malformed("text of the subject")
    return text
