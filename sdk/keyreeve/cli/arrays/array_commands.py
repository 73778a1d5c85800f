"""`keyreeve array`: arrays of servers."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from keyreeve.cli.arrays.showing import fingerprint
from keyreeve.cli.calling import control_plane
from keyreeve.cli.options import ContextFile, Output, Quiet
from keyreeve.cli.printing import Format, Printer, moment

if TYPE_CHECKING:
    from keyreeve.membership_values import Array

app = typer.Typer(help="Create, list and change arrays of servers.", no_args_is_help=True)

_COLUMNS = ("name", "state", "primary", "members", "epoch", "peer_security", "change")

ArrayName = Annotated[str, typer.Argument(help="Name of the array (`keyreeve array list`).")]


@app.command("create")
def create_array(
    server: Annotated[str, typer.Argument(help="Peer DNS name of the server, such as web-1.example.com.")],
    *,
    address: Annotated[str, typer.Option("--address", help="HOST:PORT that other members dial.")],
    release: Annotated[str, typer.Option("--release", help="Release that the server runs, such as 5.40.908.")],
    external: Annotated[
        list[str] | None, typer.Option("--external", help="DNS name by which clients know it; repeatable.")
    ] = None,
    array_id: Annotated[str, typer.Option("--id", help="Name of the array; made of the server's unless given.")] = "",
    legacy: Annotated[bool, typer.Option("--legacy", help="Of a legacy product: peer security is off.")] = False,
    peer_security: Annotated[
        bool | None,
        typer.Option("--peer-security/--no-peer-security", help="Secure connections between members or not."),
    ] = None,
    context: ContextFile = None,
    output: Output = Format.TABLE,
    quiet: Quiet = False,
) -> None:
    """Register a server as the primary of an array of one, with a CA of its own."""
    from keyreeve.membership_values import Server

    with control_plane(context) as client:
        made = client.membership.arrays.create(
            Server(server, address, release, tuple(external or ())),
            array_id=array_id,
            legacy=legacy,
            peer_security=peer_security,
        )
    _show(made, Printer(output, quiet=quiet))


@app.command("list")
def list_arrays(
    *,
    dissolved: Annotated[bool, typer.Option("--dissolved", help="Also dissolved ones.")] = False,
    context: ContextFile = None,
    output: Output = Format.TABLE,
    quiet: Quiet = False,
) -> None:
    """List arrays by name."""
    with control_plane(context) as client:
        found = [array_fields(one) for one in client.membership.arrays.list(dissolved=dissolved)]
    Printer(output, quiet=quiet).rows(_COLUMNS, found, brief="name")


@app.command("show")
def show_array(
    name: ArrayName,
    *,
    context: ContextFile = None,
    output: Output = Format.TABLE,
    quiet: Quiet = False,
) -> None:
    """Show an array with the fingerprint of its CA."""
    with control_plane(context) as client:
        found = client.membership.arrays.get(name)
    _show(found, Printer(output, quiet=quiet))


def array_fields(array: "Array") -> dict[str, Any]:
    """Return an array as plain values."""
    return {
        "name": array.name.removeprefix("arrays/"),
        "state": array.state.value,
        "primary": array.primary.removeprefix("members/"),
        "members": array.member_count,
        "epoch": array.epoch,
        "peer_security": array.peer_security,
        "change": array.change.removeprefix("operations/"),
        "authority": array.authority.removeprefix("authorities/"),
        "fingerprint": fingerprint(array.authority_sha256),
        "backup_primaries": [one.removeprefix("members/") for one in array.backup_primaries],
        "created_at": moment(array.created_at),
    }


def _show(array: "Array", printer: Printer) -> None:
    printer.item(array_fields(array), brief="name")
