"""`keyreeve cert revoke` and `revoke-many`."""

from typing import Annotated

import typer

from keyreeve.cli.calling import control_plane, read_past
from keyreeve.cli.certificates.crl_reasons import LeafReason
from keyreeve.cli.certificates.serial_numbers import one_serial
from keyreeve.cli.completion import authority_names, profile_names
from keyreeve.cli.exit_codes import print_error
from keyreeve.cli.options import ContextFile, Output, Quiet
from keyreeve.cli.printing import Format, Printer, moment
from keyreeve.errors import CertificateNotFound, KeyreeveError


def add_to(certificates: typer.Typer) -> None:
    """Add the commands that revoke certificates to `keyreeve cert`."""
    certificates.command("revoke")(revoke_certificate)
    certificates.command("revoke-many")(revoke_certificates)


def revoke_certificate(
    serial: Annotated[
        str, typer.Argument(metavar="SERIAL|FILE", help="Serial number in any spelling, or the certificate's file.")
    ],
    *,
    reason: LeafReason,
    lineage: Annotated[
        bool | None,
        typer.Option(
            "--lineage/--no-lineage",
            help="Also revoke what it renewed and what renewed it. Default: only for keyCompromise.",
        ),
    ] = None,
    context: ContextFile = None,
    output: Output = Format.TABLE,
    quiet: Quiet = False,
) -> None:
    """Revoke a certificate.

    Its holder is refused within seconds, and it is listed in the CRL.

    It cannot be undone. When others may know the key, the reason is `keyCompromise`: the key is blocked, too.
    """
    from keyreeve.values import CrlReason

    number = one_serial(serial)
    with control_plane(context) as client:
        revoked = client.certificates.revoke(number, CrlReason(reason), lineage=lineage)
    printer = Printer(output, quiet=quiet)
    good = f"{printer.palette.green}✔{printer.palette.plain}"
    assert revoked.revoked_at is not None
    assert revoked.revocation_reason is not None
    printer.answer(
        {
            "serial": revoked.serial,
            "identity": revoked.identity,
            "state": revoked.state.value,
            "revoked_at": revoked.revoked_at.isoformat(),
            "revocation_reason": revoked.revocation_reason.value,
            "revoker": revoked.revoker,
        },
        f"{good} {revoked.identity}, serial {revoked.serial}: revoked {moment(revoked.revoked_at)} "
        f"({revoked.revocation_reason}) by {revoked.revoker}",
        brief=revoked.serial,
    )


def revoke_certificates(
    *,
    reason: LeafReason,
    authority: Annotated[
        str | None, typer.Option("--authority", help="Only those signed by this CA.", autocompletion=authority_names)
    ] = None,
    profile: Annotated[
        str | None,
        typer.Option("--profile", "-p", help="Only those issued under this profile.", autocompletion=profile_names),
    ] = None,
    identity: Annotated[str | None, typer.Option("--identity", help="Only those of this identity.")] = None,
    requester: Annotated[
        str | None, typer.Option("--requester", help="Only those requested by this SPIFFE ID.")
    ] = None,
    issued_from: Annotated[
        str | None,
        typer.Option("--issued-from", help="Only those issued at or after a time, or within the last 30d, 12h, ..."),
    ] = None,
    issued_before: Annotated[
        str | None,
        typer.Option("--issued-before", help="Only those issued before a time, or more than 30d, 12h, ... ago."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")] = False,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until everything is revoked.")] = True,
    context: ContextFile = None,
    output: Output = Format.TABLE,
    quiet: Quiet = False,
) -> None:
    """Revoke all certificates that match every condition; at least one is required.

    It continues in the service when this command is interrupted: `keyreeve operation list` shows its progress.
    """
    from keyreeve.cli.administration.operation_commands import operation_fields, progress
    from keyreeve.values import CertificateState, CrlReason

    conditions = (authority, profile, identity, requester, issued_from, issued_before)
    if not any(conditions):
        raise typer.BadParameter("at least one condition is required, such as --profile or --issued-before")
    first, last = read_past(issued_from), read_past(issued_before)
    if first is not None and last is not None and first >= last:
        raise typer.BadParameter(f"nothing can be issued from {moment(first)} on and before {moment(last)}")
    with control_plane(context) as client:
        if not (yes and quiet):
            matching = sum(
                (first is None or each.issued_at >= first) and (last is None or each.issued_at < last)
                for each in client.certificates.list(
                    authority=authority,
                    profile=profile,
                    identity=identity,
                    requester=requester,
                    state=CertificateState.VALID,
                    page_size=500,
                )
            )
            if not matching:
                raise _nothing_matches()
            counted = f"{matching} certificate{'' if matching == 1 else 's'}"
            if yes:
                print_error(f"revoking {counted}")
            else:
                typer.confirm(f"Revoke {counted}? It cannot be undone.", abort=True)
        operation = client.certificates.revoke_many(
            CrlReason(reason),
            authority=authority,
            profile=profile,
            identity=identity,
            requester=requester,
            issued_from=first,
            issued_before=last,
        )
        if wait:
            operation = list(client.operations.watch(operation.name))[-1]
    printer = Printer(output, quiet=quiet)
    printer.answer(operation_fields(operation), progress(operation), brief=operation.name)
    if wait and operation.done == 0 and operation.total == 0:
        raise _nothing_matches()


def _nothing_matches() -> KeyreeveError:
    return CertificateNotFound("no valid certificate matches the conditions; nothing has been revoked")
