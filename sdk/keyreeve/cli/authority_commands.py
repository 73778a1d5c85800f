"""`keyreeve authority`: the private CAs themselves."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from keyreeve.cli.calling import control_plane, read_lifetime
from keyreeve.cli.crl_reasons import AuthorityReason
from keyreeve.cli.options import ContextFile, Output, Quiet, shown
from keyreeve.cli.printing import Format, Printer, moment

if TYPE_CHECKING:
    from keyreeve.values import Authority

app = typer.Typer(
    help="Look at the certificate authorities, make them, and move them through their life.", no_args_is_help=True
)

AuthorityId = Annotated[str, typer.Argument(metavar="AUTHORITY", help="Its name: `keyreeve authority list`.")]


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
    """Keys that an authority can have."""

    P256 = "p256"
    P384 = "p384"
    RSA3072 = "rsa3072"
    RSA4096 = "rsa4096"
    ED25519 = "ed25519"


@app.command("list")
def list_authorities(context: ContextFile = None, output: Output = Format.TABLE, quiet: Quiet = False) -> None:
    """List the authorities in order of their names."""
    with control_plane(context) as client:
        rows = [_row(authority) for authority in client.authorities.list()]
    columns = ("name", "hierarchy", "kind", "state", "key_type", "issuer", "not_after")
    Printer(output, quiet=quiet).rows(columns, rows, essence="name")


@app.command("show")
def show(
    authority: AuthorityId, context: ContextFile = None, output: Output = Format.TABLE, quiet: Quiet = False
) -> None:
    """Show one authority."""
    with control_plane(context) as client:
        told = _row(client.authorities.get(authority))
    Printer(output, quiet=quiet).thing(told, essence="state")


@app.command("create")
def create(
    authority: Annotated[
        str, typer.Argument(metavar="AUTHORITY", help="Its name: lower-case letters, digits, hyphens.")
    ],
    *,
    hierarchy: Annotated[HierarchyChoice, typer.Option("--hierarchy", help="The hierarchy it is to belong to.")],
    common_name: Annotated[str, typer.Option("--common-name", help="The CN of its certificate.")],
    kind: Annotated[KindChoice, typer.Option("--kind", help="What signs it.")] = KindChoice.INTERMEDIATE,
    issuer: Annotated[str | None, typer.Option("--issuer", help="The root that signs an intermediate.")] = None,
    owner: Annotated[str, typer.Option("--owner", help="The resource that a stand-alone CA belongs to.")] = "",
    key_type: Annotated[AuthorityKey, typer.Option("--key-type", help="Its key.")] = AuthorityKey.P256,
    lifetime: Annotated[str | None, typer.Option("--lifetime", help="How long it lives, such as 730d.")] = None,
    permit: Annotated[
        list[str] | None, typer.Option("--permit-dns", help="Confine what it issues to a DNS suffix; repeatable.")
    ] = None,
    context: ContextFile = None,
    output: Output = Format.TABLE,
    quiet: Quiet = False,
) -> None:
    """Make an authority with a key of its own. It issues nothing until it is activated."""
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
        )
    Printer(output, quiet=quiet).thing(_row(made), essence="name")


@app.command("activate")
def activate(
    authority: AuthorityId, context: ContextFile = None, output: Output = Format.TABLE, quiet: Quiet = False
) -> None:
    """Let a pending authority issue, after every kind of certificate it could issue has been linted."""
    with control_plane(context) as client:
        told = _row(client.authorities.activate(authority))
    Printer(output, quiet=quiet).thing(told, essence="state")


@app.command("retire")
def retire(
    authority: AuthorityId, context: ContextFile = None, output: Output = Format.TABLE, quiet: Quiet = False
) -> None:
    """Stop an authority from issuing; or end a retiring one that nobody needs any more: its key is destroyed."""
    with control_plane(context) as client:
        told = _row(client.authorities.retire(authority))
    Printer(output, quiet=quiet).thing(told, essence="state")


@app.command("revoke")
def revoke(
    authority: AuthorityId,
    *,
    reason: AuthorityReason,
    context: ContextFile = None,
    output: Output = Format.TABLE,
    quiet: Quiet = False,
) -> None:
    """Withdraw trust from an authority and from all that it has issued, at once. It cannot be taken back."""
    from keyreeve.values import CrlReason

    with control_plane(context) as client:
        told = _row(client.authorities.revoke(authority, CrlReason(reason)))
    Printer(output, quiet=quiet).thing(told, essence="state")


@app.command("export")
def export(
    authority: AuthorityId,
    out: Annotated[Path, typer.Option("--out", help="File for the PEM; - writes it out.")] = Path("-"),
    context: ContextFile = None,
    output: Output = Format.TABLE,
    quiet: Quiet = False,
) -> None:
    """Write an authority's certificate and those above it, its root last. Private keys never leave the service."""
    from keyreeve.cli.certificate_files import STANDARD_STREAM, write_output
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
