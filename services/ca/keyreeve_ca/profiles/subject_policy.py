"""Decides the subject of a certificate: its CN and attributes, and what of the request's subject is left out."""

from collections.abc import Iterator
from dataclasses import dataclass

from keyreeve.errors import SubjectRefused, Violation
from keyreeve_ca.profiles.profile import CommonName, Profile, ProfileVersion, Requests, SubjectAttribute
from keyreeve_ca.profiles.subject_attributes import ATTRIBUTE_OIDS, problem_with_attribute
from keyreeve_ca.requests.csr import COMMON_NAME, CertificateRequest
from keyreeve_ca.requests.name import Name, NameType
from keyreeve_ca.requests.oid_names import attribute_name

MAX_COMMON_NAME = 64
"""Characters (RFC 5280, appendix A.1, ub-common-name)."""
_SHOWN_CHARACTERS = 100


@dataclass(frozen=True, slots=True)
class Subject:
    """The decided subject."""

    common_name: str | None
    attributes: tuple[tuple[SubjectAttribute, str], ...]
    left_out: tuple[str, ...]


def decide_subject(
    version: ProfileVersion, request: CertificateRequest, names: tuple[Name, ...], wanted: str | None
) -> Subject:
    """Return the subject for a request; `wanted` is a CN that replaces the request's, and is granted or refused.

    Raises `SubjectRefused`: for `wanted`, for a required CN that does not fit, and under a strict profile for every part of
    the request's subject that is not granted.
    """
    profile = version.profile
    left_out: list[Violation] = []
    kept: list[tuple[SubjectAttribute, str]] = []
    common_name: str | None = None
    for index, (oid, text) in enumerate(request.subject):
        field = f"csr.subject[{index}]"
        if oid == COMMON_NAME:
            problem = "another CN is requested" if wanted is not None else _problem_with_cn(version, text, names)
            if problem is None and common_name is not None:
                problem = "it is a second CN"
            if problem is None:
                common_name = text
        else:
            problem = _problem_with_attribute(profile, oid, text)
            if problem is None:
                kept.append((ATTRIBUTE_OIDS[oid], text))
        if problem:
            left_out.append(Violation(field, f"{attribute_name(oid)} {_shown(text)}: {problem}"))
    if left_out and profile.requests is Requests.STRICT:
        raise SubjectRefused(f"the subject is refused: {left_out[0].description}", violations=left_out)
    if wanted is not None:
        if problem := _problem_with_cn(version, wanted, names):
            raise SubjectRefused(
                f"the requested CN is refused: {problem}", violations=[Violation("common_name", problem)]
            )
        common_name = wanted
    if common_name is None and profile.common_name is CommonName.REQUIRED:
        common_name = _first_dns_name(version, names)
    return Subject(common_name, tuple(_in_order(profile, kept)), tuple(f"{v.field}: {v.description}" for v in left_out))


def _problem_with_cn(version: ProfileVersion, text: str, names: tuple[Name, ...]) -> str | None:
    profile = version.profile
    if profile.common_name is CommonName.FORBIDDEN:
        return f"profile {version.name} has certificates without a CN"
    if len(text) > MAX_COMMON_NAME:
        return f"the CN has {len(text)} characters; it may have {MAX_COMMON_NAME}"
    if Name(NameType.DNS, text) in names or any(_matches(pattern, text) for pattern in _patterns_for(profile, text)):
        return None
    if not profile.common_names:
        return "the CN is not one of the DNS names asked for"
    return f"the CN is neither one of the DNS names nor a text that profile {version.name} allows"


def _patterns_for(profile: Profile, text: str) -> tuple[str, ...]:
    """Return the patterns for a CN that is no DNS name; none for text that a person cannot read whole."""
    if not text.strip() or text != text.strip() or not text.isprintable():
        return ()
    return profile.common_names


def _matches(pattern: str, text: str) -> bool:
    """Compare text with a pattern in which `*` stands for one or more characters."""
    first, *rest = pattern.split("*")
    if not rest:
        return text == pattern
    if not text.startswith(first):
        return False
    position = len(first)
    for part in rest[:-1]:
        found = text.find(part, position + 1)
        if found < 0:
            return False
        position = found + len(part)
    return len(text) - len(rest[-1]) > position and text.endswith(rest[-1])


def _problem_with_attribute(profile: Profile, oid: str, text: str) -> str | None:
    attribute = ATTRIBUTE_OIDS.get(oid)
    if attribute is None:
        return "the attribute is in no certificate of this CA"
    fixed = dict(profile.fixed_attributes).get(attribute)
    if fixed is not None:
        return None if text == fixed else "the profile fixes another value"
    if attribute not in profile.kept_attributes:
        return "the profile does not keep it"
    return problem_with_attribute(attribute, text)


def _in_order(profile: Profile, kept: list[tuple[SubjectAttribute, str]]) -> Iterator[tuple[SubjectAttribute, str]]:
    fixed = dict(profile.fixed_attributes)
    for attribute in SubjectAttribute:
        if attribute in fixed:
            yield attribute, fixed[attribute]
        else:
            yield from dict.fromkeys(each for each in kept if each[0] is attribute)


def _first_dns_name(version: ProfileVersion, names: tuple[Name, ...]) -> str:
    found = next((name.value for name in names if name.type is NameType.DNS), None)
    if found is None:
        raise SubjectRefused(f"profile {version.name} needs a CN, and the request has none that it allows")
    if len(found) > MAX_COMMON_NAME:
        raise SubjectRefused(
            f"profile {version.name} puts the first DNS name into the CN, which holds {MAX_COMMON_NAME} characters; "
            f"the name has {len(found)}"
        )
    return found


def _shown(text: str) -> str:
    """Return text in a printable form: escaped, and cut when long."""
    return ascii(text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "...")
