"""`keyreeve cert revoke`."""

from enum import StrEnum
from typing import Annotated

import typer

from keyreeve.cli.calling import control_plane
from keyreeve.cli.options import ContextFile, Output, Quiet
from keyreeve.cli.printing import Format, Printer, moment


class Reason(StrEnum):
    """Values of `cert revoke --reason`."""

    NOT_GIVEN = "not_given"
    KEY_COMPROMISE = "key_compromise"
    AFFILIATION_CHANGED = "affiliation_changed"
    SUPERSEDED = "superseded"
    CESSATION_OF_OPERATION = "cessation_of_operation"
    PRIVILEGE_WITHDRAWN = "privilege_withdrawn"


def add_to(certificates: typer.Typer) -> None:
    """Add what concerns a single certificate to `keyreeve cert`."""
    certificates.command("revoke")(revoke)


def revoke(
    serial: Annotated[str, typer.Argument(help="Its serial number: `keyreeve cert list` or `cert inspect` shows it.")],
    *,
    reason: Annotated[Reason, typer.Option("--reason", help="Why; what it was revoked for first stays.")],
    context: ContextFile = None,
    output: Output = Format.TABLE,
    quiet: Quiet = False,
) -> None:
    """Revoke a certificate for good: its holder is cut off at once, and its revocation list says so.

    It cannot be taken back. A key that may be known to others is `key_compromise`.
    """
    from keyreeve.values import RevocationReason

    with control_plane(context) as client:
        told = client.certificates.revoke(serial.lower().replace(":", ""), RevocationReason(reason))
    printer = Printer(output, quiet=quiet)
    good = f"{printer.palette.green}✔{printer.palette.plain}"
    assert told.revoked_at is not None
    assert told.revocation_reason is not None
    printer.answer(
        {
            "serial": told.serial,
            "identity": told.identity,
            "state": told.state.value,
            "revoked_at": told.revoked_at.isoformat(),
            "revocation_reason": told.revocation_reason.value,
            "revoker": told.revoker,
        },
        f"{good} {told.identity}, serial {told.serial}: revoked {moment(told.revoked_at)} "
        f"({told.revocation_reason}) by {told.revoker}",
        essence=told.serial,
    )
