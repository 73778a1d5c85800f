"""Which roles may create tokens for which roles, and what an enrollee's certificate holds.

The token decides both, never the enrollee's request.
"""

from collections.abc import Mapping
from datetime import timedelta

from keyreeve.durations import in_words
from keyreeve.errors import FieldInvalid, NameRefused, TokenNotAllowed, Violation
from keyreeve.identity import SERVICE_ROLES, Role, SpiffeId, service_dns_name
from keyreeve.values import Name, NameType
from keyreeve_ca.requests.name_grammar import dns_problem

DEFAULT_LIFETIME = 3600
"""Seconds in which a token can be used for the first time, unless its maker says otherwise."""
LONGEST_LIFETIME = 24 * 3600
"""A token is delivered by hand: one unused for a day was lost, or went to the wrong person."""

_OPERATORS = frozenset({Role.ADMIN, Role.OPERATOR, Role.AUDITOR})
_SERVICES = SERVICE_ROLES - {Role.CA}
# The CA's processes certify themselves, so no token makes a second CA.
_EVERYBODY = _SERVICES | _OPERATORS | {Role.MEMBER, Role.WORKLOAD}

MAY_LET_IN: Mapping[Role, frozenset[Role]] = {
    Role.ADMIN: _EVERYBODY,
    Role.CA: _EVERYBODY,
    Role.OPERATOR: frozenset({Role.MEMBER, Role.WORKLOAD}),
    Role.MEMBERSHIP: frozenset({Role.MEMBER}),
}
"""For each role, the roles that its tokens may be worth; a role that is not here makes none."""


def check_may_let_in(creator: Role, wanted: Role) -> None:
    """Raise `TokenNotAllowed` unless `creator` may create a token for the role `wanted`."""
    if wanted in MAY_LET_IN.get(creator, frozenset()):
        return
    allowed = ", ".join(sorted(role.value for role, worth in MAY_LET_IN.items() if wanted in worth))
    raise TokenNotAllowed(
        f"a {creator.value} cannot create enrollment tokens for the role {wanted.value}; allowed: {allowed or 'none'}",
        metadata={"wanted": wanted.value, "allowed": allowed},
    )


def read_identity(text: str, trust_domain: str) -> tuple[SpiffeId, Role]:
    """Parse the identity that a token is for; return it with its role. Raises `NameRefused`."""
    try:
        identity = SpiffeId.parse(text)
    except ValueError as failure:
        raise _refused(text, f"it is not a SPIFFE ID: {failure}") from None
    role = identity.role
    if role is None:
        raise _refused(text, "its path has none of the forms of an identity (docs/names.md)")
    if identity.trust_domain != trust_domain:
        raise _refused(text, f"it does not belong to the trust domain {trust_domain}")
    if text != text.lower():
        raise _refused(text, "identities are in lower case")
    problem = dns_problem(identity.path[1]) if role is Role.MEMBER else None
    if problem:
        raise _refused(text, f"a member is called by its DNS name: {problem}")
    return identity, role


def check_lifetime(seconds: int | None) -> int:
    """Return a token's lifetime in seconds. Raises `FieldInvalid`."""
    if seconds is None:
        return DEFAULT_LIFETIME
    if not 0 < seconds <= LONGEST_LIFETIME:
        why = f"a token lives for at most {in_words(timedelta(seconds=LONGEST_LIFETIME))}"
        raise FieldInvalid(f"lifetime: {why}", violations=[Violation("lifetime", why)])
    return seconds


def profile_of(role: Role) -> str:
    """The built-in profile for an enrollee's role."""
    if role in SERVICE_ROLES:
        return "service"
    if role in _OPERATORS:
        return "operator"
    return {Role.MEMBER: "member", Role.WORKLOAD: "workload"}[role]


def names_of(identity: SpiffeId) -> tuple[Name, ...]:
    """The names in an identity's certificate: its SPIFFE ID, and for a service the DNS name that clients pin."""
    names = [Name(NameType.URI, str(identity))]
    if identity.role in SERVICE_ROLES:
        names.append(Name(NameType.DNS, service_dns_name(identity.path[1], identity.trust_domain)))
    return tuple(names)


def _refused(text: str, why: str) -> NameRefused:
    return NameRefused(f"identity {text[:200]!a}: {why}", violations=[Violation("identity", why)])
