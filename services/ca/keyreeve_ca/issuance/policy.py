"""Policy: the plan of one certificate for a request, or every reason to refuse it. No I/O, no clock.

A lifetime counts both ends (RFC 5280, 4.1.2.5) and includes the backdating: a certificate of 90 days is valid for
7,776,000 seconds, some of which lie before the moment of signing.
"""

from collections.abc import Sequence
from datetime import timedelta

from keyreeve.durations import in_words
from keyreeve.errors import (
    AuthorityExpiring,
    AuthorityStateWrong,
    ExtensionRefused,
    FieldInvalid,
    KeyTypeRefused,
    LifetimeRefused,
    NameRefused,
    ProfileHalted,
    ProfileNotAllowed,
    Violation,
)
from keyreeve.identity import Caller, Role
from keyreeve.values import Name, NameType
from keyreeve_ca.certificates.plan import CertificatePlan, Issuer
from keyreeve_ca.issuance.name_policy import decide_names, decide_subject
from keyreeve_ca.profiles.profile import KeyUsage, Profile, ProfileVersion, Requests
from keyreeve_ca.requests.csr import CertificateRequest
from keyreeve_ca.requests.key_rules import KnownKeys, check_key

MAX_IGNORED = 32
"""Ignored parts of one request that are told by themselves."""
_CA_USAGES = frozenset({"key_cert_sign", "crl_sign"})
SHORTEST_PART_OF_DEFAULT = 10
"""A default lifetime is cut at its issuer's end down to this part (a tenth) of itself, and no further."""


def check_requester(version: ProfileVersion, role: Role) -> None:
    """Raise `ProfileNotAllowed` unless the profile lists the role as a requester."""
    if role not in version.profile.requesters:
        allowed = ", ".join(sorted(version.profile.requesters))
        raise ProfileNotAllowed(
            f"profile {version.name} may be asked for by {allowed}; you are {role}",
            metadata={"profile": version.name, "role": role, "allowed": allowed},
        )


def check_own_name(caller: Caller, names: Sequence[Name]) -> None:
    """Raise `NameRefused` for a name that is not a member's own: it may be certified for the name that it is enrolled under."""
    if caller.role is not Role.MEMBER:
        return
    own = Name(NameType.DNS, caller.id.path[-1])
    refused = [name for name in names if name != own]
    if refused:
        raise NameRefused(
            f"{caller} gets certificates for {own.value} alone, not for {refused[0].value}",
            violations=[
                Violation("names", f"{name.type} name {name.value!r} is not the member's own") for name in refused
            ],
        )


def plan_certificate(
    version: ProfileVersion,
    request: CertificateRequest,
    *,
    extra_names: Sequence[Name],
    common_name: str | None = None,
    lifetime: timedelta | None,
    now: int,
    issuer: Issuer,
    trust_domain: str,
    known: KnownKeys,
) -> CertificatePlan:
    """Decide what the certificate for a request holds: everything but its serial number and its issuer's part.

    The names are those of the CSR, then `extra_names`; `common_name` replaces the CSR's; `lifetime` is the requested one,
    `now` in seconds since 1970. What the profile does not grant is left out of a lenient profile's certificates, and told
    in `CertificatePlan.ignored`, unless it changes whom or what is certified; a strict profile refuses it. Does not check
    the CSR's signature, which costs more than all of this. Raises, in this order: `ProfileHalted`, `FieldInvalid` (an
    authority of another hierarchy), `KeyTypeRefused`, `TooManyNames`, `NameRefused` (with every bad name),
    `NameMissing`, `SubjectRefused`, `ExtensionRefused`, `LifetimeRefused`, `AuthorityExpiring`, `KeyBlocked`, `KeyWeak`.
    """
    profile = version.profile
    if version.halted:
        raise ProfileHalted(f"profile {version.name} is halted", metadata={"profile": version.name})
    if issuer.hierarchy is not profile.hierarchy:
        what = f"authority {issuer.authority_id} is of hierarchy {issuer.hierarchy}; profile {version.name} of {profile.hierarchy}"
        raise FieldInvalid(what, violations=[Violation("authority", what)])
    if request.key_type not in profile.keys:
        allowed = ", ".join(sorted(profile.keys))
        raise KeyTypeRefused(
            f"the key is {request.key_type}; profile {version.name} allows {allowed}",
            metadata={"key_type": request.key_type, "allowed": allowed},
        )
    if profile.requests is Requests.STRICT and request.strict_refusal is not None:
        raise request.strict_refusal
    names, names_left_out = decide_names(version, request, extra_names, trust_domain)
    subject = decide_subject(version, request, names, common_name)
    extensions_left_out = _check_requested_extensions(version, request)
    not_before, not_after = plan_validity(profile, lifetime, now, issuer)
    check_key(request.spki, request.spki_sha256, request.key_type, known)
    return CertificatePlan(
        profile=version,
        spki=request.spki,
        key_type=request.key_type,
        common_name=subject.common_name,
        names=names,
        not_before=not_before,
        not_after=not_after,
        attributes=subject.attributes,
        ignored=_shortened((*request.left_out, *subject.left_out, *names_left_out, *extensions_left_out)),
    )


def _shortened(ignored: tuple[str, ...]) -> tuple[str, ...]:
    """Limit what the ledger keeps of a request's ignored parts."""
    if len(ignored) <= MAX_IGNORED:
        return ignored
    return (*ignored[: MAX_IGNORED - 1], f"{len(ignored) - MAX_IGNORED + 1} others")


def granted_key_usage(profile: Profile, request: CertificateRequest) -> frozenset[KeyUsage]:
    """Return the key usage bits of the certificate; key encipherment is for RSA only (RFC 8813, section 3)."""
    if request.key_type.is_rsa:
        return profile.key_usage
    return profile.key_usage - {KeyUsage.KEY_ENCIPHERMENT}


def _check_requested_extensions(version: ProfileVersion, request: CertificateRequest) -> tuple[str, ...]:
    """Return the extensions that are left out. Raises `ExtensionRefused`."""
    requested_extensions = request.requested_extensions
    refused = [f"the extension {other}" for other in requested_extensions.others]
    if requested_extensions.authority:
        refused.append("basic constraints of a CA")
    if requested_extensions.key_usage is not None:
        beyond = requested_extensions.key_usage - granted_key_usage(version.profile, request)
        refused += [f"the key usage {usage}" for usage in sorted(beyond)]
    if requested_extensions.extended_key_usage is not None:
        beyond = requested_extensions.extended_key_usage - version.profile.extended_key_usage
        refused += [f"the extended key usage {usage}" for usage in sorted(beyond)]
    asks_for_ca = requested_extensions.authority or not _CA_USAGES.isdisjoint(requested_extensions.key_usage or ())
    if refused and (asks_for_ca or version.profile.requests is Requests.STRICT):
        raise ExtensionRefused(
            f"profile {version.name} does not grant {', '.join(refused)} to {request.key_type} keys",
            violations=[Violation("csr.extensions", f"{what} is not granted") for what in refused],
        )
    return tuple(f"csr.extensions: {what.removeprefix('the ')}" for what in refused)


def plan_validity(profile: Profile, lifetime: timedelta | None, now: int, issuer: Issuer) -> tuple[int, int]:
    """Return (not before, not after), both inclusive, in seconds since 1970.

    The profile's default lifetime is cut where the issuer ends. A requested lifetime is granted whole or refused.
    Raises `LifetimeRefused`, `AuthorityExpiring` (the issuer ends too soon) or `AuthorityStateWrong` (its validity has
    not begun: a clock is wrong).
    """
    if now < issuer.not_before:
        raise AuthorityStateWrong(
            f"authority {issuer.authority_id} is valid in {_words(issuer.not_before - now)}; the clock has gone back"
        )
    backdate = int(profile.backdate.total_seconds())
    start = now - backdate
    left = issuer.not_after - start + 1
    if lifetime is None:
        seconds = int(profile.default_lifetime.total_seconds())
        shortest = max(seconds // SHORTEST_PART_OF_DEFAULT, backdate + 1)
        if left < shortest:
            raise _expiring(issuer, left, shortest)
        seconds = min(seconds, left)
    else:
        seconds = _requested(profile, lifetime, backdate)
        if left < seconds:
            raise _expiring(issuer, left, seconds)
    return max(start, issuer.not_before), start + seconds - 1


def _requested(profile: Profile, lifetime: timedelta, backdate: int) -> int:
    longest = int(profile.maximum_lifetime.total_seconds())
    bounds = {"min_seconds": str(backdate + 1), "max_seconds": str(longest)}
    if lifetime.microseconds:
        raise LifetimeRefused("the requested lifetime is not a whole number of seconds", metadata=bounds)
    seconds = int(lifetime.total_seconds())
    if seconds > longest:
        raise LifetimeRefused(
            f"the requested lifetime is {_words(seconds)}; the profile allows at most {_words(longest)}",
            metadata=bounds,
        )
    if seconds <= backdate:
        raise LifetimeRefused(
            f"the requested lifetime is {_words(seconds)}, and {_words(backdate)} have passed when the certificate is signed",
            metadata=bounds,
        )
    return seconds


def _expiring(issuer: Issuer, left: int, needed: int) -> AuthorityExpiring:
    return AuthorityExpiring(
        f"authority {issuer.authority_id} can give a certificate {_words(max(left, 0))}; {_words(needed)} are needed",
        metadata={"max_seconds": str(max(left, 0))},
    )


def _words(seconds: int) -> str:
    return in_words(timedelta(seconds=seconds))
