"""When servers renew their peer certificates: spread over time, so that an array does not renew at once; no I/O."""

from keyreeve_membership.roll.digests import sha256
from keyreeve_membership.roll.ports import Report

LIFETIME_SECONDS = 7 * 86_400
"""Of peer certificates (profile `array-peer`)."""
_BEFORE = LIFETIME_SECONDS // 3
"""Renewal is due when a third of the lifetime is left."""
_SPREAD = LIFETIME_SECONDS // 6


def renewal_time(member: str, report: Report) -> int | None:
    """When a server is to renew, in seconds since 1970; None: it has no certificate.

    At two thirds of the certificate's life, or up to a sixth of it earlier: the hash of the name spreads the servers, and each
    has the same place every time.
    """
    if not report.certificate_not_after:
        return None
    place = int.from_bytes(sha256(member.encode())[:4]) / 2**32
    return report.certificate_not_after - _BEFORE - int(place * _SPREAD)
