"""Plans of certificates of the built-in profiles, from an issuer that outlives them."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from functools import cache

from keyreeve.values import Hierarchy, Name
from keyreeve_ca.certificates.plan import CertificatePlan, Issuer
from keyreeve_ca.issuance.policy import plan_certificate
from keyreeve_ca.profiles.builtin import builtin_profiles
from keyreeve_ca.profiles.document import read_profile
from keyreeve_ca.profiles.profile import ProfileVersion, Requests
from keyreeve_ca.requests.csr import CertificateRequest
from keyreeve_ca.requests.key_rules import KnownKeys
from keyreeve_chassis.keys.key_types import KeyType

TRUST_DOMAIN = "corp.example.test"
NOW = 1_800_000_000
DAY = 86_400


@cache
def builtin(name: str) -> ProfileVersion:
    document, sha256, profile = builtin_profiles(TRUST_DOMAIN)[name]
    return ProfileVersion(name, 1, sha256, document, profile)


def strict(name: str) -> ProfileVersion:
    """A built-in profile with `requests: strict`."""
    version = builtin(name)
    return replace(version, profile=replace(version.profile, requests=Requests.STRICT))


def version_of(document: str, name: str = "custom") -> ProfileVersion:
    """Version 1 of a profile from its YAML."""
    canonical, sha256, profile = read_profile(document, TRUST_DOMAIN)
    return ProfileVersion(name, 1, sha256, canonical, profile)


def issuer(hierarchy: Hierarchy, not_before: int = NOW - DAY, not_after: int = NOW + 1000 * DAY) -> Issuer:
    return Issuer(f"{hierarchy}-1", hierarchy, b"", KeyType.P256, not_before, not_after, "http://ca.example.test:8080")


def plan(
    profile: str | ProfileVersion,
    request: CertificateRequest,
    extra_names: Sequence[Name] = (),
    lifetime: timedelta | None = None,
    known: KnownKeys = KnownKeys(),  # noqa: B008  a value that cannot change
    *,
    common_name: str | None = None,
) -> CertificatePlan:
    """Plan a certificate of a built-in profile or of a version."""
    version = builtin(profile) if isinstance(profile, str) else profile
    return plan_certificate(
        version,
        request,
        extra_names=extra_names,
        common_name=common_name,
        lifetime=lifetime,
        now=NOW,
        issuer=issuer(version.profile.hierarchy),
        trust_domain=TRUST_DOMAIN,
        known=known,
    )
