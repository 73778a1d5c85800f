"""Rules about a profile as a whole, beyond each key by itself."""

from collections.abc import Iterator
from datetime import timedelta

from keyreeve.errors import Violation
from keyreeve.identity import reserved_dns_suffixes
from keyreeve.values import Hierarchy
from keyreeve_ca.profiles.patterns import TRUST_DOMAIN, dns_pattern, problem_with_dns_pattern, problem_with_uri_template
from keyreeve_ca.profiles.profile import CommonName, ExtendedKeyUsage, KeyUsage, Profile
from keyreeve_ca.profiles.subject_attributes import problem_with_attribute
from keyreeve_chassis.keys.key_types import KeyType

LONGEST_LIFETIME = timedelta(days=825)
LONGEST_IN_CONTROL_HIERARCHY = timedelta(days=7)
"""The longest lifetime of control-plane certificates; longer use requires renewal."""
LONGEST_BACKDATE = timedelta(hours=1)


def problems_with_profile(profile: Profile, trust_domain: str, *, builtin: bool) -> Iterator[Violation]:
    """Yield the problems of a profile whose keys are each well-formed."""
    yield from _lifetime_problems(profile)
    yield from _pattern_problems(profile)
    yield from _count_problems(profile)
    yield from _subject_problems(profile)
    if KeyUsage.DIGITAL_SIGNATURE not in profile.key_usage:
        yield Violation("usage.key", "digital_signature is needed: every key here signs in a TLS handshake")
    if KeyUsage.KEY_ENCIPHERMENT in profile.key_usage and not any(key.is_rsa for key in profile.keys):
        yield Violation("usage.key", "key_encipherment is for RSA keys only, and none are allowed")
    if profile.hierarchy is Hierarchy.CONTROL:
        yield from _control_problems(profile, builtin=builtin)
    else:
        yield from _foreign_problems(profile, trust_domain)
    if builtin:
        return
    if profile.may_use_reserved_names:
        yield Violation("may_use_reserved_names", "only built-in profiles may")
    for index, pattern in enumerate(profile.dns.patterns if profile.dns else ()):
        for suffix in reserved_dns_suffixes(trust_domain):
            if f".{pattern}".replace(TRUST_DOMAIN, trust_domain).endswith(f".{suffix}"):
                yield Violation(
                    f"names.dns.patterns[{index}]", f"names below {suffix} are reserved to built-in profiles"
                )


def _lifetime_problems(profile: Profile) -> Iterator[Violation]:
    if profile.maximum_lifetime > LONGEST_LIFETIME:
        yield Violation("lifetime.maximum", f"no certificate lives longer than {LONGEST_LIFETIME.days}d")
    if profile.default_lifetime > profile.maximum_lifetime:
        yield Violation("lifetime.default", "it is longer than the maximum")
    if profile.backdate > LONGEST_BACKDATE:
        yield Violation("lifetime.backdate", "it is longer than 1h")
    if profile.backdate >= profile.default_lifetime:
        yield Violation("lifetime.backdate", "it is part of the lifetime and must be shorter than the default")


def _pattern_problems(profile: Profile) -> Iterator[Violation]:
    for key, patterns in (
        ("dns.patterns", profile.dns.patterns if profile.dns else ()),
        ("email.domains", profile.email.domains if profile.email else ()),
    ):
        for index, pattern in enumerate(patterns):
            problem = problem_with_dns_pattern(pattern)
            if problem:
                yield Violation(f"names.{key}[{index}]", problem)
    for index, template in enumerate(profile.uri.templates if profile.uri else ()):
        problem = problem_with_uri_template(template)
        if problem:
            yield Violation(f"names.uri.templates[{index}]", problem)


def _count_problems(profile: Profile) -> Iterator[Violation]:
    most = sum(rule.maximum for rule in (profile.dns, profile.uri, profile.ip, profile.email) if rule)
    if most == 0:
        yield Violation("names", "no type of name is allowed, so no certificate could be issued")
    elif profile.minimum_names > most:
        yield Violation("names.minimum", f"the types of names allow {most} together, fewer than the minimum")
    if profile.common_name is not CommonName.FORBIDDEN and profile.dns is None and not profile.common_names:
        yield Violation("subject.common_name", "a CN repeats a DNS name, and the profile allows none")


def _subject_problems(profile: Profile) -> Iterator[Violation]:
    if profile.common_names:
        if profile.common_name is CommonName.FORBIDDEN:
            yield Violation("subject.common_names", "the profile has certificates without a CN")
        # Some clients look for a server's name in the CN when there is no DNS name.
        if ExtendedKeyUsage.SERVER_AUTH in profile.extended_key_usage:
            yield Violation("subject.common_names", "a server's CN is one of its DNS names")
        if profile.common_name is CommonName.REQUIRED and profile.dns is None:
            yield Violation(
                "subject.common_name", "a required CN is by default a DNS name, and the profile allows none"
            )
    for index, pattern in enumerate(profile.common_names):
        if not pattern.isprintable() or "**" in pattern or pattern != pattern.strip():
            yield Violation(
                f"subject.common_names[{index}]", "a pattern is printable text in which * matches characters"
            )
    for attribute, text in profile.fixed_attributes:
        if attribute in profile.kept_attributes:
            yield Violation(f"subject.fixed.{attribute}", "it is also among those that are kept")
        if problem := problem_with_attribute(attribute, text):
            yield Violation(f"subject.fixed.{attribute}", problem)
    if profile.hierarchy is Hierarchy.CONTROL and (profile.kept_attributes or profile.fixed_attributes):
        yield Violation("subject", "certificates of the control hierarchy have no subject attributes")


def _control_problems(profile: Profile, *, builtin: bool) -> Iterator[Violation]:
    if profile.maximum_lifetime > LONGEST_IN_CONTROL_HIERARCHY:
        days = LONGEST_IN_CONTROL_HIERARCHY.days
        yield Violation("lifetime.maximum", f"no certificate of the control hierarchy lives longer than {days}d")
    if KeyType.ED25519 in profile.keys:
        yield Violation(
            "keys", "ed25519: gRPC cannot load such a certificate, so none of the control hierarchy has one"
        )
    if not profile.one_identity_per_key:
        yield Violation("one_identity_per_key", "certificates of the control hierarchy are identities: it must be true")
    if profile.ip or profile.email:
        yield Violation("names", "a certificate of the control hierarchy has a SPIFFE ID and DNS names, nothing else")
    if profile.uri is None or profile.uri.maximum != 1:
        yield Violation(
            "names.uri.maximum", "a certificate of the control hierarchy has exactly one URI, its SPIFFE ID"
        )
    for index, template in enumerate(profile.uri.templates if profile.uri else ()):
        field = f"names.uri.templates[{index}]"
        start = f"spiffe://{TRUST_DOMAIN}/"
        if not template.startswith(start):
            yield Violation(field, f"a template of the control hierarchy begins with {start}")
            continue
        first = template.removeprefix(start).partition("/")[0]
        if first not in {"services", "members", "operators", "workloads"}:
            yield Violation(field, "the path of an identity begins with services, members, operators or workloads")
        if first in {"services", "operators"} and not (builtin and profile.may_use_reserved_names):
            yield Violation(field, f"identities under {first} are reserved to the built-in profiles")


def _foreign_problems(profile: Profile, trust_domain: str) -> Iterator[Violation]:
    """Problems of a profile outside the control hierarchy.

    None of its templates may produce an identity of this control plane.
    """
    for index, template in enumerate(profile.uri.templates if profile.uri else ()):
        if problem_with_uri_template(template):
            continue
        scheme, _, rest = template.partition("://")
        if scheme == "spiffe" and dns_pattern(rest.partition("/")[0], trust_domain).match(trust_domain) is not None:
            yield Violation(
                f"names.uri.templates[{index}]",
                "it could produce SPIFFE IDs of this trust domain, which are for the control hierarchy",
            )
