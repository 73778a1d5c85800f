"""From when to when a certificate is valid. A lifetime counts both ends (RFC 5280, 4.1.2.5) and includes the backdating.

So a certificate of 90 days is valid for 7,776,000 seconds, of which those before the moment of signing have passed.
"""

from datetime import timedelta

from keyreeve.durations import in_words
from keyreeve.errors import AuthorityExpiring, AuthorityStateWrong, LifetimeRefused
from keyreeve_ca.certificates.plan import Issuer
from keyreeve_ca.profiles.profile import Profile

SHORTEST_PART_OF_DEFAULT = 10
"""A default lifetime is cut at its issuer's end down to this part (a tenth) of itself, and no further."""


def plan_validity(profile: Profile, lifetime: timedelta | None, now: int, issuer: Issuer) -> tuple[int, int]:
    """Return (not before, not after), both inclusive, in seconds since 1970.

    Without a wish the profile's default is cut where the issuer ends. A wish is granted whole or refused. Raises
    `LifetimeRefused`, `AuthorityExpiring` (the issuer ends too soon) or `AuthorityStateWrong` (it has not begun: a clock
    is wrong).
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
        seconds = _wished(profile, lifetime, backdate)
        if left < seconds:
            raise _expiring(issuer, left, seconds)
    return max(start, issuer.not_before), start + seconds - 1


def _wished(profile: Profile, lifetime: timedelta, backdate: int) -> int:
    longest = int(profile.maximum_lifetime.total_seconds())
    bounds = {"min_seconds": str(backdate + 1), "max_seconds": str(longest)}
    if lifetime.microseconds:
        raise LifetimeRefused("the wished lifetime is not a whole number of seconds", metadata=bounds)
    seconds = int(lifetime.total_seconds())
    if seconds > longest:
        raise LifetimeRefused(
            f"the wished lifetime is {_words(seconds)}; the profile allows at most {_words(longest)}", metadata=bounds
        )
    if seconds <= backdate:
        raise LifetimeRefused(
            f"the wished lifetime is {_words(seconds)}, and {_words(backdate)} have passed when the certificate is signed",
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
