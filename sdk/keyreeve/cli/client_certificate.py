"""The certificate that commands call with: renewed by whichever command comes when it is time."""

import os
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from keyreeve.cli.exit_codes import say
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
"""What a renewal may take of a command's time; the next command tries again."""


def renew_in_time(context: "Context", now: Clock = time.time) -> None:
    """Renew the context's certificate when its time has come; what goes wrong is told on stderr and ends no command.

    An expired certificate is left alone, since nothing renews it, and so is one whose key belongs to another user, whose
    program could not read the new one.
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
            return  # the command itself will say what is wrong with the files
        try:
            own.renew_when_due()
        except KeyreeveError as failure:
            until = moment(datetime.fromtimestamp(end, UTC))
            say(f"note: your certificate is good until {until}, and was not renewed: {failure.message}")
            say(f"      {failure.fix}")


def explained(context: "Context", failure: KeyreeveError, now: Clock = time.time) -> KeyreeveError:
    """What it means that nobody answered, or that the caller was refused, when the certificate has expired.

    A server that refuses a certificate in the TLS handshake does not say why. Every other failure is answered as it is.
    """
    if not isinstance(failure, ServiceUnreachable | Unauthenticated) or isinstance(failure, PeerCertificateExpired):
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
    from keyreeve.cli.certificate_files import read_certificates

    return read_certificates(context.certificate)[0].not_valid_after_utc.timestamp()
