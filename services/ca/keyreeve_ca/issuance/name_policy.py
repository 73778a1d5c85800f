"""Decides which names a certificate gets: grammar, reserved names, then the profile's rules."""

from collections.abc import Sequence
from ipaddress import ip_address

from keyreeve.errors import NameMissing, NameRefused, TooManyNames, Violation
from keyreeve.identity import OPERATOR_ROLES, SERVICE_ROLES, Role, SpiffeId, reserved_dns_suffixes
from keyreeve_ca.profiles.patterns import Pattern, dns_pattern, uri_template
from keyreeve_ca.profiles.profile import CommonName, Hierarchy, ProfileVersion, Requests
from keyreeve_ca.requests.csr import COMMON_NAME, MAX_NAMES, CertificateRequest
from keyreeve_ca.requests.name import Name, NameType
from keyreeve_ca.requests.name_grammar import dns_problem, problem_with

_RESERVED_IDENTITIES = (
    ("services", SERVICE_ROLES, frozenset({"service", "enrollment"})),
    ("people", OPERATOR_ROLES, frozenset({"operator"})),
)
_MAX_READINGS = 64
_SHOWN_CHARACTERS = 100


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


def _shown(text: str) -> str:
    """Return the text in a printable form: escaped, and cut when long."""
    return ascii(text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "...")
