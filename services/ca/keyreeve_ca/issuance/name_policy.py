"""Decides the names of a certificate: the subject alternative names, then its subject, and what of the request is left out.

A name passes the grammar, the reserved names, then the profile's rules.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import ip_address

from keyreeve.errors import NameMissing, NameRefused, SubjectRefused, TooManyNames, Violation
from keyreeve.identity import OPERATOR_ROLES, SERVICE_ROLES, Role, SpiffeId, reserved_dns_suffixes
from keyreeve.values import Hierarchy, Name, NameType
from keyreeve_ca.profiles.patterns import Pattern, dns_pattern, uri_template
from keyreeve_ca.profiles.profile import CommonName, Profile, ProfileVersion, Requests, SubjectAttribute
from keyreeve_ca.profiles.subject_attributes import ATTRIBUTE_OIDS, problem_with_attribute
from keyreeve_ca.requests.csr import COMMON_NAME, MAX_NAMES, CertificateRequest, attribute_name
from keyreeve_ca.requests.name_grammar import dns_problem, problem_with

_RESERVED_IDENTITIES = (
    ("services", SERVICE_ROLES, frozenset({"service", "enrollment"})),
    ("people", OPERATOR_ROLES, frozenset({"operator"})),
)
_MAX_READINGS = 64
_SHOWN_CHARACTERS = 100
MAX_COMMON_NAME = 64
"""Characters (RFC 5280, appendix A.1, ub-common-name)."""


@dataclass(frozen=True, slots=True)
class Subject:
    """The decided subject."""

    common_name: str | None
    attributes: tuple[tuple[SubjectAttribute, str], ...]
    left_out: tuple[str, ...]


def decide_names(
    version: ProfileVersion, request: CertificateRequest, extra_names: Sequence[Name], trust_domain: str
) -> tuple[tuple[Name, ...], tuple[str, ...]]:
    """Return the names of the CSR, then the extra ones, in order and without duplicates; and what is left out.

    Under a lenient profile, names of the CSR whose type the profile does not have are left out if another name remains,
    and a CSR without names asks for its CN. Raises `TooManyNames` before anything is matched, `NameRefused` with a
    violation for every bad name, `NameMissing`.
    """
    profile = version.profile
    if len(request.names) + len(request.unusable_names) + len(extra_names) > MAX_NAMES:
        raise _too_many("names", MAX_NAMES)
    places = _places(request, extra_names) or _name_in_subject(version, request)
    rules = {
        NameType.DNS: profile.dns,
        NameType.IP: profile.ip,
        NameType.URI: profile.uri,
        NameType.EMAIL: profile.email,
    }
    counts = dict.fromkeys(rules, 0)
    for name in places:
        counts[name.type] += 1
    for name_type, rule in rules.items():
        if rule is not None and counts[name_type] > rule.maximum:
            raise _too_many(f"{name_type} names", rule.maximum)

    left_out = [Violation(_field(at), problem) for at, problem in request.unusable_names]
    left_out += [
        Violation(_field(place), f"{name.type} name {_shown(name.value)}: the profile has no names of this type")
        for name, place in places.items()
        if rules[name.type] is None and place >= 0
    ]
    remaining = {name: place for name, place in places.items() if rules[name.type] is not None or place < 0}
    refused: list[Violation] = []
    if version.profile.requests is Requests.LENIENT and remaining and left_out:
        places = remaining
        for name_type, rule in rules.items():
            if rule is None:
                counts[name_type] = sum(name.type is name_type for name in places)
    else:
        refused += [Violation(_field(at), problem) for at, problem in request.unusable_names]
        left_out = []
    readings = _Readings()
    for name, place in places.items():
        problem = (
            problem_with(name)
            or _reserved_problem(name, version, trust_domain)
            or _profile_problem(name, version, trust_domain, readings)
        )
        if problem:
            refused.append(Violation(_field(place), f"{name.type} name {_shown(name.value)}: {problem}"))
    if refused:
        first, count = refused[0], len(refused)
        others = f" ({count} names are refused in all)" if count > 1 else ""
        raise NameRefused(f"{first.field}: {first.description}{others}", violations=refused)

    _check_present(version, counts, len(places))
    return tuple(places), tuple(f"{v.field}: {v.description}" for v in left_out)


def _name_in_subject(version: ProfileVersion, request: CertificateRequest) -> dict[Name, int]:
    """Return the CN of a CSR without any name as a DNS name or IP address, if it is one.

    Most programs ask so when they are given a host name alone.
    """
    profile = version.profile
    if (
        profile.requests is Requests.STRICT
        or profile.hierarchy is Hierarchy.CONTROL
        or profile.common_name is CommonName.FORBIDDEN
        or request.unusable_names
    ):
        return {}
    found: dict[Name, int] = {}
    for oid, text in request.subject:
        for name_type, rule in ((NameType.DNS, profile.dns), (NameType.IP, profile.ip)):
            name = Name(name_type, text)
            if oid == COMMON_NAME and rule is not None and text and not found and problem_with(name) is None:
                found[name] = 0
    return found


def _places(request: CertificateRequest, extra_names: Sequence[Name]) -> dict[Name, int]:
    """Return each name once, in order, with its position: in the CSR, or -1, -2, ... among the extra names."""
    places: dict[Name, int] = {}
    unusable = dict(request.unusable_names)
    position = 0
    for name in request.names:
        while position in unusable:
            position += 1
        places.setdefault(name, position)
        position += 1
    for index, name in enumerate(extra_names):
        places.setdefault(name, -1 - index)
    return places


def _field(place: int) -> str:
    return f"csr.subject_alternative_name[{place}]" if place >= 0 else f"names[{-1 - place}]"


def _check_present(version: ProfileVersion, counts: dict[NameType, int], total: int) -> None:
    profile = version.profile
    if profile.hierarchy is Hierarchy.CONTROL and not counts[NameType.URI]:
        raise NameMissing(f"profile {version.name} needs a URI name: the SPIFFE ID is the identity")
    if profile.common_name is CommonName.REQUIRED and not counts[NameType.DNS]:
        raise NameMissing(f"profile {version.name} needs a DNS name")
    if total < profile.minimum_names:
        raise NameMissing(
            f"profile {version.name} needs at least {profile.minimum_names} subject alternative names, and the request "
            f"has {total}",
            metadata={"min_names": str(profile.minimum_names)},
        )


def _reserved_problem(name: Name, version: ProfileVersion, trust_domain: str) -> str | None:
    """Return why a name is reserved for the control plane, whatever the profile allows."""
    if name.type is NameType.URI:
        return _reserved_uri_problem(name.value, version, trust_domain)
    if name.type is NameType.EMAIL:
        return _reserved_host_problem(name.value.partition("@")[2], trust_domain)
    if name.type is NameType.DNS and not version.profile.may_use_reserved_names:
        return _reserved_host_problem(name.value, trust_domain)
    return None


def _reserved_uri_problem(uri: str, version: ProfileVersion, trust_domain: str) -> str | None:
    scheme, _, rest = uri.partition("://")
    host = rest.partition("/")[0]
    if version.profile.hierarchy is Hierarchy.CONTROL:
        if scheme != "spiffe" or host != trust_domain:
            return f"a certificate of the control hierarchy names a SPIFFE ID of {trust_domain} and no other URI"
        return _identity_problem(uri, version)
    if host == trust_domain:
        return f"URIs at {trust_domain} are identities, and those are for certificates of the control hierarchy alone"
    return _reserved_host_problem(host, trust_domain)


def _reserved_host_problem(host: str, trust_domain: str) -> str | None:
    for suffix in reserved_dns_suffixes(trust_domain):
        if host == suffix or host.endswith("." + suffix):
            return f"names below {suffix} are reserved to the control plane's services"
        if host == "*." + suffix.partition(".")[2]:
            return f"the wildcard covers {suffix}, which is reserved to the control plane's services"
    return None


def _identity_problem(text: str, version: ProfileVersion) -> str | None:
    """Return why a SPIFFE ID of our trust domain may not be in a certificate of this control profile."""
    try:
        identity = SpiffeId.parse(text)
    except ValueError as failure:
        return f"it is not a SPIFFE ID: {failure}"
    if identity.role is None:
        return "its path has none of the forms of an identity (docs/names.md)"
    # Judged here again, whatever the templates say: a profile may have been stored under rules that were weaker.
    for kind, roles, names in _RESERVED_IDENTITIES:
        if identity.role in roles and not (version.profile.may_use_reserved_names and version.name in names):
            return f"identities of {kind} are reserved to the built-in profiles for them"
    # Identities that differ only by case would be two to the machine and one to its reader.
    if text != text.lower():
        return "identities are in lower case"
    problem = dns_problem(identity.path[1]) if identity.role is Role.MEMBER else None
    return f"a member is called by its DNS name: {problem}" if problem else None


class _Readings:
    """The values that the profile's variables can have, given the names so far.

    A name that matches several patterns can be read in several ways; a reading is kept until a name contradicts it.
    """

    def __init__(self) -> None:
        self._readings: list[dict[str, str]] = [{}]

    def admit(self, ways: list[dict[str, str]]) -> bool:
        """Keep the readings that agree with the name; False when none does."""
        if not all(ways):
            return True  # one of the patterns matches and has no variables
        kept: list[dict[str, str]] = []
        for reading in self._readings:
            for way in ways:
                both = {**way, **reading}
                if all(both[variable] == text for variable, text in way.items()) and both not in kept:
                    kept.append(both)
        if not kept:
            return False
        # Dropping readings can refuse a name, never admit one; only a profile made to be ambiguous gets here.
        self._readings = kept[:_MAX_READINGS]
        return True


def _profile_problem(name: Name, version: ProfileVersion, trust_domain: str, readings: _Readings) -> str | None:
    profile = version.profile
    patterns: list[Pattern]
    text = name.value
    if name.type is NameType.DNS and profile.dns:
        if text[0] == "*" and not profile.dns.wildcards:
            return f"profile {version.name} allows no wildcards"
        patterns = [dns_pattern(pattern, trust_domain) for pattern in profile.dns.patterns]
    elif name.type is NameType.URI and profile.uri:
        patterns = [uri_template(template, trust_domain) for template in profile.uri.templates]
    elif name.type is NameType.EMAIL and profile.email:
        text = text.partition("@")[2]
        patterns = [dns_pattern(pattern, trust_domain) for pattern in profile.email.domains]
    elif name.type is NameType.IP and profile.ip:
        address = ip_address(text)
        inside = any(address in network for network in profile.ip.networks)
        return None if inside else f"it lies in none of the networks of profile {version.name}"
    else:
        return f"profile {version.name} allows no {name.type} names"
    ways = [way for way in (pattern.match(text) for pattern in patterns) if way is not None]
    if not ways:
        return f"it matches none of the patterns of profile {version.name}"
    if not readings.admit(ways):
        return f"it does not fit the other names: a variable of profile {version.name} would have two meanings"
    return None


def _too_many(what: str, maximum: int) -> TooManyNames:
    return TooManyNames(f"the request has more than {maximum} {what}", metadata={"max_names": str(maximum)})


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
    """Return the text in a printable form: escaped, and cut when long."""
    return ascii(text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "...")
