"""`keyreeve cert revoke` and `revoke-many`, and `keyreeve crl`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from keyreeve.cli.calling import control_plane, read_instant
from keyreeve.cli.certificates.crl_reasons import LeafReason
from keyreeve.cli.options import ContextFile, Output, Quiet, shown
from keyreeve.cli.printing import Format, Printer, moment

if TYPE_CHECKING:
    from keyreeve.values import RevocationList

crl = typer.Typer(help="Show and download CRLs.", no_args_is_help=True)

Authority = Annotated[str, typer.Argument(help="Name of the CA (`keyreeve authority list`).")]
Shard = Annotated[
    int,
    typer.Option("--shard", min=0, help="Shard: the number in a certificate's CRL distribution point, .../SHARD.crl"),
]


def add_to(certificates: typer.Typer) -> None:
    """Add the commands that revoke certificates to `keyreeve cert`."""
    certificates.command("revoke")(revoke_certificate)
    certificates.command("revoke-many")(revoke_certificates)


def revoke_certificate(
    serial: Annotated[str, typer.Argument(help="Serial number (`keyreeve cert list` or `cert inspect`).")],
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

    with control_plane(context) as client:
        revoked = client.certificates.revoke(serial.lower().replace(":", ""), CrlReason(reason), lineage=lineage)
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
    authority: Annotated[str | None, typer.Option("--authority", help="Only those signed by this CA.")] = None,
    profile: Annotated[
        str | None, typer.Option("--profile", "-p", help="Only those issued under this profile.")
    ] = None,
    identity: Annotated[str | None, typer.Option("--identity", help="Only those of this identity.")] = None,
    requester: Annotated[
        str | None, typer.Option("--requester", help="Only those requested by this SPIFFE ID.")
    ] = None,
    issued_from: Annotated[
        str | None, typer.Option("--issued-from", help="Only those issued at or after a time.")
    ] = None,
    issued_before: Annotated[
        str | None, typer.Option("--issued-before", help="Only those issued before a time.")
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
    from keyreeve.values import CrlReason

    if not yes:
        typer.confirm("Revoke all matching certificates? It cannot be undone.", abort=True)
    with control_plane(context) as client:
        operation = client.certificates.revoke_many(
            CrlReason(reason),
            authority=authority,
            profile=profile,
            identity=identity,
            requester=requester,
            issued_from=read_instant(issued_from),
            issued_before=read_instant(issued_before),
        )
        if wait:
            operation = list(client.operations.watch(operation.name))[-1]
    printer = Printer(output, quiet=quiet)
    printer.answer(operation_fields(operation), progress(operation), brief=operation.name)


@crl.command("show")
def show_crl(
    authority: Authority,
    *,
    shard: Shard = 0,
    context: ContextFile = None,
    output: Output = Format.TABLE,
    quiet: Quiet = False,
) -> None:
    """Print a CRL: its number, its validity, and the revoked certificates."""
    from cryptography import x509

    with control_plane(context) as client:
        found = client.certificates.revocation_list(authority, shard)
    entries = [_entry(one) for one in x509.load_der_x509_crl(found.crl_der)]
    printer = Printer(output, quiet=quiet)
    lines = [
        f"{found.name}, number {found.number}: {found.entries} revoked",
        f"  from {moment(found.this_update)} until {moment(found.next_update)}",
        *(f"  {one['serial']}  {one['revoked_at']}  {one['reason']}" for one in entries),
    ]
    printer.answer(_crl_fields(found) | {"revoked": entries}, "\n".join(lines), brief=str(found.number))


@crl.command("fetch")
def fetch_crl(
    authority: Authority,
    *,
    shard: Shard = 0,
    out: Annotated[Path, typer.Option("--out", help="File for the CRL in DER.")],
    context: ContextFile = None,
    output: Output = Format.TABLE,
    quiet: Quiet = False,
) -> None:
    """Write a CRL to a file in DER, which `openssl crl -inform DER` reads."""
    from keyreeve.errors import FileUnusable
    from keyreeve.files import write_atomically

    with control_plane(context) as client:
        found = client.certificates.revocation_list(authority, shard)
    try:
        write_atomically(out, found.crl_der)
    except OSError as problem:
        raise FileUnusable(f"cannot write {out}: {problem.strerror}") from problem
    printer = Printer(output, quiet=quiet)
    printer.answer(
        _crl_fields(found) | {"file": str(out)},
        f"{printer.palette.green}✔{printer.palette.plain} {shown(out)}: number {found.number}, {found.entries} revoked, "
        f"until {moment(found.next_update)}",
        brief=str(out),
    )


def _crl_fields(found: "RevocationList") -> dict[str, Any]:
    return {
        "name": found.name,
        "number": found.number,
        "this_update": found.this_update.isoformat(),
        "next_update": found.next_update.isoformat(),
        "entries": found.entries,
    }


def _entry(revoked: Any) -> dict[str, str]:  # noqa: ANN401  # x509.RevokedCertificate, imported at its use
    from cryptography import x509

    try:
        reason = revoked.extensions.get_extension_for_class(x509.CRLReason).value.reason.name
    except x509.ExtensionNotFound:
        reason = "unspecified"
    return {
        "serial": f"{revoked.serial_number:032x}",
        "revoked_at": moment(revoked.revocation_date_utc),
        "reason": reason,
    }
