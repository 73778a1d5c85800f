"""Renewal of the certificate of commands, by the first command after it is due."""

import os
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from keyreeve.cli.exit_codes import print_error
from keyreeve.cli.printing import moment
from keyreeve.errors import (
    ContextInvalid,
    FileUnusable,
    KeyreeveError,
    PeerCertificateExpired,
    ServiceUnreachable,
    Unauthenticated,
)

if TYPE_CHECKING:
    from keyreeve.context import Context

Clock = Callable[[], float]
"""Seconds since 1970."""

RENEW_SECONDS = 5.0
"""Time limit of a renewal before a command; the next command tries again."""


def renew_if_due(context: "Context", now: Clock = time.time) -> None:
    """Renew the context's certificate if it is due.

    A failure is printed on standard error and does not end the command.

    An expired certificate cannot be renewed. One whose key belongs to another user is not: that user's programs could not
    read the new key.
    """
    from keyreeve import Client
    from keyreeve._blocking.identity_renewal import IdentityRenewal
    from keyreeve.retry import NO_RETRY

    with Client(context, timeout=RENEW_SECONDS, retry=NO_RETRY) as client:
        own = IdentityRenewal(context, client, now=now)
        try:
            if not own.is_due() or context.key.stat().st_uid != os.geteuid() or now() >= (end := _end(context)):
                return
        except (ContextInvalid, FileUnusable, OSError):
            return  # the command itself reports what is wrong with the files
        try:
            own.renew_when_due()
        except KeyreeveError as failure:
            until = moment(datetime.fromtimestamp(end, UTC))
            print_error(f"note: your certificate is valid until {until}, but could not be renewed: {failure.message}")
            print_error(f"      {failure.fix}")


def explain_failure(context: "Context", failure: KeyreeveError, now: Clock = time.time) -> KeyreeveError:
    """Turn a failed connection with a wrong clock or an expired certificate into its cause.

    A server that refuses a certificate in the TLS handshake does not say why. Every other failure is returned unchanged.
    """
    from keyreeve.cli.clock_check import wrong_clock

    if not isinstance(failure, ServiceUnreachable | Unauthenticated):
        return failure
    if isinstance(failure, ServiceUnreachable):  # no handshake succeeded
        skewed = wrong_clock(context, datetime.fromtimestamp(now(), UTC))
        if skewed is not None:
            return skewed
    if isinstance(failure, PeerCertificateExpired):
        return failure
    try:
        end = _end(context)
    except FileUnusable:
        return failure
    if now() < end:
        return failure
    expired = f"your certificate expired at {moment(datetime.fromtimestamp(end, UTC))}"
    return PeerCertificateExpired(f"{expired} ({failure.message})", metadata={"path": str(context.certificate)})


def _end(context: "Context") -> float:
    from keyreeve.cli.certificates.certificate_files import read_certificates

    return read_certificates(context.certificate)[0].not_valid_after_utc.timestamp()
