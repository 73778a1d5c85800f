"""`keyreeve bundle`: the trust bundles of arrays."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from keyreeve.cli.arrays.array_commands import ArrayName
from keyreeve.cli.arrays.showing import fingerprint
from keyreeve.cli.calling import control_plane
from keyreeve.cli.options import ContextFile, Output, Quiet
from keyreeve.cli.printing import Format, Printer, moment

if TYPE_CHECKING:
    from keyreeve.membership_values import Epoch

app = typer.Typer(help="Show and export the trust bundles of arrays.", no_args_is_help=True)

_COLUMNS = ("epoch", "digest", "authorities", "rotation", "created_at")


@app.command("show")
def show_bundle(
    array: ArrayName,
    *,
    context: ContextFile = None,
    output: Output = Format.TABLE,
    quiet: Quiet = False,
) -> None:
    """Show the newest epoch of an array."""
    with control_plane(context) as client:
        found = client.membership.bundles.get(array)
    Printer(output, quiet=quiet).item(epoch_fields(found), brief="epoch")


@app.command("epochs")
def list_epochs(
    array: ArrayName,
    *,
    first: Annotated[int, typer.Option("--from", min=0, help="The first number of interest.")] = 0,
    context: ContextFile = None,
    output: Output = Format.TABLE,
    quiet: Quiet = False,
) -> None:
    """List the epochs of an array."""
    with control_plane(context) as client:
        found = [epoch_fields(one) for one in client.membership.bundles.epochs(array, from_epoch=first)]
    Printer(output, quiet=quiet).rows(_COLUMNS, found, brief="epoch")


@app.command("export")
def export_bundle(
    array: ArrayName,
    *,
    out: Annotated[Path | None, typer.Option("--out", help="PEM file to write; default: standard output.")] = None,
    context: ContextFile = None,
) -> None:
    """Write the certificates of the newest epoch as PEM."""
    from keyreeve.files import write_atomically
    from keyreeve.values import to_pem

    with control_plane(context) as client:
        found = client.membership.bundles.get(array)
    pem = to_pem(one.certificate_der for one in found.authorities)
    if out is None:
        typer.echo(pem, nl=False)
    else:
        write_atomically(out, pem.encode())


def epoch_fields(epoch: "Epoch") -> dict[str, Any]:
    """Return an epoch as plain values."""
    return {
        "array": epoch.array.removeprefix("arrays/"),
        "epoch": epoch.epoch,
        "restore_generation": epoch.restore_generation,
        "digest": fingerprint(epoch.digest),
        "previous_digest": fingerprint(epoch.previous_digest),
        "authorities": [f"{one.name.removeprefix('authorities/')} ({one.use.value})" for one in epoch.authorities],
        "rotation": epoch.rotation.removeprefix("rotations/"),
        "created_at": moment(epoch.created_at),
    }
