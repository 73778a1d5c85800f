"""`keyreeve crl`: show and download CRLs."""

from collections.abc import Sequence
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from keyreeve.cli.calling import control_plane
from keyreeve.cli.completion import authority_names
from keyreeve.cli.options import ContextFile, Output, Quiet, shown
from keyreeve.cli.printing import Format, Printer, moment

if TYPE_CHECKING:
    from keyreeve import Client
    from keyreeve.values import RevocationList

app = typer.Typer(help="Show and download CRLs.", no_args_is_help=True)

Authority = Annotated[
    str, typer.Argument(help="Name of the CA (`keyreeve authority list`).", autocompletion=authority_names)
]
Shard = Annotated[
    int,
    typer.Option("--shard", min=0, help="Shard: the number in a certificate's CRL distribution point, .../SHARD.crl"),
]
Full = Annotated[
    bool, typer.Option("--full", help="The full list: all shards in one, for programs that know no shards.")
]


class Encoding(StrEnum):
    """Encodings of a CRL."""

    DER = "der"
    PEM = "pem"


@app.command("show")
def show_crl(
    authority: Authority,
    *,
    shard: Shard = 0,
    full: Full = False,
    context: ContextFile = None,
    output: Output = Format.TABLE,
    quiet: Quiet = False,
) -> None:
    """Print a CRL: its number, its validity, and the revoked certificates."""
    from cryptography import x509

    with control_plane(context) as client:
        found = client.certificates.revocation_list(authority, None if full else shard)
    entries = [_entry(one) for one in x509.load_der_x509_crl(found.crl_der)]
    printer = Printer(output, quiet=quiet)
    lines = [
        f"{found.name}, number {found.number}: {found.entries} revoked",
        f"  from {moment(found.this_update)} until {moment(found.next_update)}",
        *(f"  {one['serial']}  {one['revoked_at']}  {one['reason']}" for one in entries),
    ]
    printer.answer(_crl_fields(found) | {"revoked": entries}, "\n".join(lines), brief=str(found.number))


@app.command("fetch")
def fetch_crl(
    authority: Annotated[
        str | None, typer.Argument(help="Name of the CA; none with --all.", autocompletion=authority_names)
    ] = None,
    *,
    shard: Shard = 0,
    full: Full = False,
    every: Annotated[
        bool, typer.Option("--all", help="The full lists of all CAs that are in use, roots included, in one PEM file.")
    ] = False,
    out: Annotated[Path, typer.Option("--out", help="File to write; - is standard output.")],
    encoding: Annotated[Encoding | None, typer.Option("--form", help="Encoding. Default: der; pem with --all.")] = None,
    context: ContextFile = None,
    output: Output = Format.TABLE,
    quiet: Quiet = False,
) -> None:
    """Write a CRL to a file, in DER or PEM; with --all the lists of all CAs.

    nginx (`ssl_crl`), HAProxy (`crl-file`), PostgreSQL (`ssl_crl_file`) and `openssl verify -crl_check_all` read the file of
    --all.
    """
    from keyreeve.cli.certificates.certificate_files import STANDARD_STREAM, check_writable, write_bytes

    if every is (authority is not None):
        raise typer.BadParameter("name one CA, or all of them with --all", param_hint="AUTHORITY")
    if every and encoding is Encoding.DER:
        raise typer.BadParameter("several lists are in PEM", param_hint="--form")
    check_writable(out)
    with control_plane(context) as client:
        if authority is None:
            found = _all_lists(client)
        else:
            found = [client.certificates.revocation_list(authority, None if full else shard)]
    if every or encoding is Encoding.PEM:
        write_bytes(out, _pem(found))
    else:
        write_bytes(out, found[0].crl_der)
    if out == STANDARD_STREAM:
        return
    printer = Printer(output, quiet=quiet)
    good = f"{printer.palette.green}✔{printer.palette.plain}"
    lines = [
        f"{good} {shown(out)}: {one.name.split('/')[1]}, number {one.number}, {one.entries} revoked, "
        f"until {moment(one.next_update)}"
        for one in found
    ]
    documents = [_crl_fields(one) | {"file": str(out)} for one in found]
    printer.answer(documents if every else documents[0], "\n".join(lines), brief=str(out))


def _all_lists(client: "Client") -> "list[RevocationList]":
    """Return the full list of each CA that is active, retiring or revoked, and has not expired.

    Raises `RevocationListNotFound` when one is missing: programs that check every CRL refuse what it has signed.
    """
    from keyreeve.errors import RevocationListNotFound
    from keyreeve.values import AuthorityState

    now, without = datetime.now(UTC), {AuthorityState.PENDING, AuthorityState.RETIRED}
    in_use = [each for each in client.authorities.list() if each.state not in without and each.not_after > now]
    if not in_use:
        raise RevocationListNotFound("no CA is in use; nothing has been written")
    return [client.certificates.revocation_list(each.name, None) for each in in_use]


def _pem(lists: "Sequence[RevocationList]") -> bytes:
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding as PemEncoding

    return b"".join(x509.load_der_x509_crl(one.crl_der).public_bytes(PemEncoding.PEM) for one in lists)


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
