"""`keyreeve operator ssh-key`: keys and SSH CAs with which operators log in by SSH."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from keyreeve.cli.administration.operator_commands import read_public_keys
from keyreeve.cli.calling import control_plane
from keyreeve.cli.options import ContextFile, Output, Quiet
from keyreeve.cli.printing import Format, Printer, fields, moment

if TYPE_CHECKING:
    from keyreeve.values import SshKey

app = typer.Typer(help="Register keys with which operators log in by SSH.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of the operator.")]


@app.command("add")
def add_key(
    name: Name,
    key_file: Annotated[
        Path, typer.Argument(metavar="FILE", help="File with one SSH public key, such as id_ed25519.pub.")
    ],
    *,
    authority: Annotated[
        bool, typer.Option("--ca", help="It is an SSH CA: keys with its certificates for NAME log in, not it.")
    ] = False,
    context: ContextFile = None,
    output: Output = Format.TABLE,
    quiet: Quiet = False,
) -> None:
    """Register a key or an SSH CA for an operator.

    A certificate must name the operator among its principals and be valid for at most 24 hours.
    """
    lines = read_public_keys([key_file])
    if len(lines) != 1:
        raise typer.BadParameter(
            f"{key_file} contains {len(lines)} keys; one is registered at a time", param_hint="FILE"
        )
    with control_plane(context) as client:
        _print(
            Printer(output, quiet=quiet),
            client.operators.register_ssh_key(name, lines[0], certificate_authority=authority),
        )


@app.command("list")
def list_keys(name: Name, context: ContextFile = None, output: Output = Format.TABLE, quiet: Quiet = False) -> None:
    """List the keys and SSH CAs of an operator."""
    with control_plane(context) as client:
        rows = [_row(key) for key in client.operators.ssh_keys(name)]
    Printer(output, quiet=quiet).rows(
        ("fingerprint", "kind", "hardware", "added_at", "added_by"), rows, brief="fingerprint"
    )


@app.command("remove")
def remove_key(
    name: Name,
    fingerprint: Annotated[str, typer.Argument(metavar="FINGERPRINT", help="Fingerprint, as `list` shows it.")],
    context: ContextFile = None,
    output: Output = Format.TABLE,
    quiet: Quiet = False,
) -> None:
    """Remove a key or an SSH CA, and close the sessions that were opened with it."""
    with control_plane(context) as client:
        _print(Printer(output, quiet=quiet), client.operators.remove_ssh_key(name, fingerprint))


def _print(printer: Printer, key: "SshKey") -> None:
    document = _row(key)
    printer.answer(document, fields(document), brief=document["fingerprint"])


def _row(key: "SshKey") -> dict[str, Any]:
    return {
        "fingerprint": key.key.fingerprint,
        "kind": "ca" if key.certificate_authority else "key",
        "hardware": key.key.hardware,
        "public_key": key.key.public_key,
        "added_at": moment(key.key.added_at),
        "added_by": key.key.added_by,
    }
