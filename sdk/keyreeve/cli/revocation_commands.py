"""`keyreeve cert revoke` and `revoke-many`, and `keyreeve crl`: lists of revoked certificates."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from keyreeve.cli.calling import control_plane, read_instant
from keyreeve.cli.crl_reasons import LeafReason
from keyreeve.cli.options import ContextFile, Output, Quiet, shown
from keyreeve.cli.printing import Format, Printer, moment

if TYPE_CHECKING:
    from keyreeve.values import RevocationList

lists = typer.Typer(help="Look at the lists of revoked certificates.", no_args_is_help=True)

Authority = Annotated[str, typer.Argument(help="The CA: `keyreeve authority list`.")]
Shard = Annotated[
    int, typer.Option("--shard", min=0, help="The number that the address in a certificate ends in: .../SHARD.crl")
]


def add_to(certificates: typer.Typer) -> None:
    """Add what concerns a single certificate to `keyreeve cert`."""
    certificates.command("revoke")(revoke)
    certificates.command("revoke-many")(revoke_many)


def revoke(
    serial: Annotated[str, typer.Argument(help="Its serial number: `keyreeve cert list` or `cert inspect` shows it.")],
    *,
    reason: LeafReason,
    context: ContextFile = None,
    output: Output = Format.TABLE,
    quiet: Quiet = False,
) -> None:
    """Revoke a certificate for good: its holder is cut off at once, and its revocation list says so.

    It cannot be taken back. When others may know the key, the reason is `keyCompromise`.
    """
    from keyreeve.values import CrlReason

    with control_plane(context) as client:
        told = client.certificates.revoke(serial.lower().replace(":", ""), CrlReason(reason))
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


def revoke_many(
    *,
    reason: LeafReason,
    authority: Annotated[str | None, typer.Option("--authority", help="Only those that it signed.")] = None,
    profile: Annotated[str | None, typer.Option("--profile", "-p", help="Only those under it.")] = None,
    identity: Annotated[str | None, typer.Option("--identity", help="Only those of this identity.")] = None,
    requester: Annotated[
        str | None, typer.Option("--requester", help="Only those that this SPIFFE ID asked for.")
    ] = None,
    issued_from: Annotated[str | None, typer.Option("--issued-from", help="Only those issued since a time.")] = None,
    issued_before: Annotated[
        str | None, typer.Option("--issued-before", help="Only those issued before a time.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until everything is revoked.")] = True,
    context: ContextFile = None,
    output: Output = Format.TABLE,
    quiet: Quiet = False,
) -> None:
    """Revoke every certificate that fits, for good; at least one condition is required.

    It goes on in the service when this command is interrupted: `keyreeve operation list` shows how far it is.
    """
    from keyreeve.cli.operation_commands import facts, progress
    from keyreeve.values import CrlReason

    if not yes:
        typer.confirm("Revoke every certificate that fits? It cannot be taken back.", abort=True)
    with control_plane(context) as client:
        told = client.certificates.revoke_many(
            CrlReason(reason),
            authority=authority,
            profile=profile,
            identity=identity,
            requester=requester,
            issued_from=read_instant(issued_from),
            issued_before=read_instant(issued_before),
        )
        if wait:
            told = list(client.operations.watch(told.name))[-1]
    printer = Printer(output, quiet=quiet)
    printer.answer(facts(told), progress(told), essence=told.name)


@lists.command("show")
def show(
    authority: Authority,
    *,
    shard: Shard = 0,
    context: ContextFile = None,
    output: Output = Format.TABLE,
    quiet: Quiet = False,
) -> None:
    """List what one of an authority's lists holds: its number, from when to when, and every revoked certificate."""
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
    printer.answer(_facts(found) | {"revoked": entries}, "\n".join(lines), essence=str(found.number))


@lists.command("fetch")
def fetch(
    authority: Authority,
    *,
    shard: Shard = 0,
    out: Annotated[Path, typer.Option("--out", help="File for the list in DER.")],
    context: ContextFile = None,
    output: Output = Format.TABLE,
    quiet: Quiet = False,
) -> None:
    """Write one of an authority's lists to a file, in DER as `openssl crl -inform DER` reads it."""
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
        _facts(found) | {"file": str(out)},
        f"{printer.palette.green}✔{printer.palette.plain} {shown(out)}: number {found.number}, {found.entries} revoked, "
        f"until {moment(found.next_update)}",
        essence=str(out),
    )


def _facts(found: "RevocationList") -> dict[str, Any]:
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
