"""Whether a connection failed because of this machine's clock.

A clock that is years off makes every certificate expired or not yet valid, and the messages blame the certificates.
"""

import socket
import ssl
import urllib.error
import urllib.request
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

from keyreeve.cli.printing import distance, moment
from keyreeve.errors import ClockSkewed, KeyreeveError
from keyreeve.identity import service_dns_name

if TYPE_CHECKING:
    from cryptography import x509

    from keyreeve.context import Context

TOLERANCE = timedelta(seconds=60)
"""As everywhere between the two sides (docs/protocols.md)."""
WITHOUT_PROXY = urllib.request.build_opener(urllib.request.ProxyHandler({}))
"""A proxy of the environment would dial its own loopback."""
_ANSWER_SECONDS = 3.0


def served_date(url: str) -> datetime | None:
    """The Date header of an HTTP server's response, whatever its status.

    None when there is none.
    """
    try:
        with WITHOUT_PROXY.open(url, timeout=_ANSWER_SECONDS) as answer:
            header = answer.headers["Date"]
    except urllib.error.HTTPError as refusal:
        header = refusal.headers["Date"]
    except (OSError, ValueError):
        return None
    try:
        return parsedate_to_datetime(header).astimezone(UTC)
    except (TypeError, ValueError):
        return None


def wrong_clock(context: "Context", now: datetime) -> ClockSkewed | None:
    """Return the error of a client whose clock is wrong; None when it is right, or nothing is known."""
    from keyreeve.cli.certificates.certificate_files import read_certificates

    try:
        own = read_certificates(context.certificate)
    except KeyreeveError:
        return None
    theirs, how = _their_time(context, own, now)
    return None if theirs is None or abs(theirs - now) <= TOLERANCE else _skewed(now, theirs, how)


def _their_time(context: "Context", own: "list[x509.Certificate]", now: datetime) -> "tuple[datetime | None, str]":
    """The control plane's time, as far as it is known, and from where.

    The client's own certificate is asked first, then the time on the CA's plain-HTTP listener, then the certificate that the
    CA presents, if it leads to the roots of the context.
    """
    if own[0].not_valid_before_utc - now > TOLERANCE:
        return own[0].not_valid_before_utc, "your certificate was issued then or later"
    if context.http and (theirs := served_date(context.http)) is not None:
        return theirs, "the CA says so"
    presented = _presented(context)
    if presented is None or not _is_trusted(context, presented, own[1:]):
        return None, ""
    if presented.not_valid_before_utc > now:
        return presented.not_valid_before_utc, "the CA's certificate was issued then or later"
    return min(now, presented.not_valid_after_utc), "the CA presents a certificate that expires then"


def _skewed(now: datetime, theirs: datetime, how: str) -> ClockSkewed:
    side = "behind" if theirs > now else "ahead"
    return ClockSkewed(
        f"this machine's clock says {moment(now)}, the control plane's {moment(theirs)} ({how}): it is "
        f"{distance(abs(theirs - now))} {side}, so certificates look expired or not yet valid",
        metadata={"client_time": moment(now), "server_time": moment(theirs)},
    )


def _presented(context: "Context") -> "x509.Certificate | None":
    """The certificate that the CA presents; it is not trusted yet."""
    from cryptography import x509

    host, _, port = context.addresses("ca")[0].rpartition(":")
    settings = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    settings.check_hostname, settings.verify_mode = False, ssl.CERT_NONE
    settings.set_alpn_protocols(["h2"])
    try:
        with (
            socket.create_connection((host.strip("[]"), int(port)), timeout=_ANSWER_SECONDS) as plain,
            settings.wrap_socket(plain) as secured,
        ):
            der = secured.getpeercert(binary_form=True)
    except (OSError, ValueError):
        return None
    return None if der is None else x509.load_der_x509_certificate(der)


def _is_trusted(context: "Context", presented: "x509.Certificate", others: "list[x509.Certificate]") -> bool:
    """Whether it leads to the context's roots, at the time at which it was issued, over the client's own issuing CA."""
    from keyreeve.cli.certificates.certificate_files import read_certificates
    from keyreeve.cli.certificates.trust_checks import verify_for

    try:
        roots = read_certificates(context.bundle)
        name = service_dns_name("ca", context.trust_domain)
        verify_for(roots, [presented, *others], name, presented.not_valid_before_utc + TOLERANCE)
    except (KeyreeveError, ValueError):
        return False
    return True
