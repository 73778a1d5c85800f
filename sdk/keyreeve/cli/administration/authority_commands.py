"""`keyreeve authority`: the certificate authorities."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from keyreeve.cli.calling import control_plane, read_lifetime
from keyreeve.cli.certificates.crl_reasons import AuthorityReason
from keyreeve.cli.completion import authority_names
from keyreeve.cli.options import ContextFile, Output, Quiet, shown
from keyreeve.cli.printing import Format, Printer, moment

if TYPE_CHECKING:
    from keyreeve.values import Authority

app = typer.Typer(help="List, create, activate, retire and revoke certificate authorities.", no_args_is_help=True)

AuthorityId = Annotated[
    str,
    typer.Argument(
        metavar="AUTHORITY", help="Name of the authority (`keyreeve authority list`).", autocompletion=authority_names
    ),
]


class HierarchyChoice(StrEnum):
    """Values of `--hierarchy`."""

    CONTROL = "control"
    ESTATE = "estate"
    STANDALONE = "standalone"


class KindChoice(StrEnum):
    """Values of `--kind`."""

    ROOT = "root"
    INTERMEDIATE = "intermediate"


class AuthorityKey(StrEnum):
    """Key types of an authority."""

    P256 = "p256"
    P384 = "p384"
    RSA3072 = "rsa3072"
    RSA4096 = "rsa4096"
    ED25519 = "ed25519"


@app.command("list")
def list_authorities(context: ContextFile = None, output: Output = Format.TABLE, quiet: Quiet = False) -> None:
    """List the authorities by name."""
    with control_plane(context) as client:
        rows = [_row(authority) for authority in client.authorities.list()]
    columns = ("name", "hierarchy", "kind", "state", "key_type", "issuer", "not_after")
    Printer(output, quiet=quiet).rows(columns, rows, brief="name")


@app.command("show")
def show_authority(
    authority: AuthorityId, context: ContextFile = None, output: Output = Format.TABLE, quiet: Quiet = False
) -> None:
    """Show one authority."""
    with control_plane(context) as client:
        row = _row(client.authorities.get(authority))
    Printer(output, quiet=quiet).item(row, brief="state")


@app.command("create")
def create_authority(
    authority: Annotated[str, typer.Argument(metavar="AUTHORITY", help="Name: lower-case letters, digits, hyphens.")],
    *,
    hierarchy: Annotated[HierarchyChoice, typer.Option("--hierarchy", help="Hierarchy of the authority.")],
    common_name: Annotated[str, typer.Option("--common-name", help="CN of its certificate.")],
    kind: Annotated[
        KindChoice, typer.Option("--kind", help="Self-signed root, or intermediate.")
    ] = KindChoice.INTERMEDIATE,
    issuer: Annotated[str | None, typer.Option("--issuer", help="Root that signs an intermediate.")] = None,
    owner: Annotated[str, typer.Option("--owner", help="Resource that a standalone CA belongs to.")] = "",
    key_type: Annotated[AuthorityKey, typer.Option("--key-type", help="Key type.")] = AuthorityKey.P256,
    lifetime: Annotated[str | None, typer.Option("--lifetime", help="Lifetime, such as 730d.")] = None,
    permit: Annotated[
        list[str] | None,
        typer.Option("--permit-dns", help="Only names below this DNS suffix, and no IP addresses; repeatable."),
    ] = None,
    unconstrained: Annotated[
        bool,
        typer.Option(
            "--unconstrained", help="Without name constraints, for mbedTLS (docs/deployment.md); estate only."
        ),
    ] = False,
    context: ContextFile = None,
    output: Output = Format.TABLE,
    quiet: Quiet = False,
) -> None:
    """Create an authority with a new key. It issues nothing until it is activated.

    Once active, an intermediate of a hierarchy is the default for all names that it may sign: of the active ones, the newest
    that may sign the names of a request is taken.
    """
    from keyreeve.values import AuthorityKind, Hierarchy, KeyType

    with control_plane(context) as client:
        made = client.authorities.create(
            authority,
            hierarchy=Hierarchy(hierarchy),
            kind=AuthorityKind(kind),
            common_name=common_name,
            issuer=issuer,
            owner=owner,
            key_type=KeyType(key_type),
            lifetime=read_lifetime(lifetime),
            permitted_dns_suffixes=tuple(permit or ()),
            unconstrained=unconstrained,
        )
    Printer(output, quiet=quiet).item(_row(made), brief="name")


@app.command("activate")
def activate_authority(
    authority: AuthorityId, context: ContextFile = None, output: Output = Format.TABLE, quiet: Quiet = False
) -> None:
    """Activate a pending authority.

    A certificate of each profile that it could issue is linted first.
    """
    with control_plane(context) as client:
        row = _row(client.authorities.activate(authority))
    Printer(output, quiet=quiet).item(row, brief="state")


@app.command("retire")
def retire_authority(
    authority: AuthorityId, context: ContextFile = None, output: Output = Format.TABLE, quiet: Quiet = False
) -> None:
    """Move an active authority to retiring, or a retiring one to retired.

    A retiring authority does not issue; the key of a retired one is destroyed.
    """
    with control_plane(context) as client:
        row = _row(client.authorities.retire(authority))
    Printer(output, quiet=quiet).item(row, brief="state")


@app.command("revoke")
def revoke_authority(
    authority: AuthorityId,
    *,
    reason: AuthorityReason,
    context: ContextFile = None,
    output: Output = Format.TABLE,
    quiet: Quiet = False,
) -> None:
    """Revoke an authority and, with it, every certificate that it has issued.

    It cannot be undone.
    """
    from keyreeve.values import CrlReason

    with control_plane(context) as client:
        row = _row(client.authorities.revoke(authority, CrlReason(reason)))
    Printer(output, quiet=quiet).item(row, brief="state")


@app.command("export")
def export_authority(
    authority: AuthorityId,
    out: Annotated[Path, typer.Option("--out", help="File for the PEM; - is standard output.")] = Path("-"),
    context: ContextFile = None,
    output: Output = Format.TABLE,
    quiet: Quiet = False,
) -> None:
    """Write an authority's certificate and those above it in PEM, the root last.

    Private keys are never exported.
    """
    from keyreeve.cli.certificates.certificate_files import STANDARD_STREAM, write_output
    from keyreeve.values import to_pem

    with control_plane(context) as client:
        pem = to_pem(client.authorities.export(authority))
    printer = Printer(output, quiet=quiet)
    if out != STANDARD_STREAM:
        write_output(out, pem)
        printer.answer({"file": str(out)}, f"{shown(out)} written")
    elif output is Format.TABLE:
        write_output(out, pem)
    else:
        printer.answer({"pem": pem}, "")


def _row(authority: "Authority") -> dict[str, Any]:
    return {
        "name": authority.name.removeprefix("authorities/"),
        "hierarchy": authority.hierarchy.value,
        "kind": authority.kind.value,
        "state": authority.state.value,
        "owner": authority.owner,
        "issuer": authority.issuer.removeprefix("authorities/"),
        "common_name": authority.common_name,
        "key_type": authority.key_type.value,
        "permitted_dns_suffixes": list(authority.permitted_dns_suffixes),
        "sha256": authority.certificate_sha256.hex(),
        "not_before": moment(authority.not_before),
        "not_after": moment(authority.not_after),
        "created_at": moment(authority.created_at),
        "activated_at": authority.activated_at and moment(authority.activated_at),
        "retired_at": authority.retired_at and moment(authority.retired_at),
        "revoked_at": authority.revoked_at and moment(authority.revoked_at),
    }
