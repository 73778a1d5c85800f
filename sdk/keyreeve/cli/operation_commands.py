"""`keyreeve operation`: work that goes on in the service after the command that began it."""

from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any

import typer

from keyreeve.cli.calling import control_plane
from keyreeve.cli.options import ContextFile, Output, Quiet, ServiceName
from keyreeve.cli.printing import Format, Printer, moment

if TYPE_CHECKING:
    from keyreeve.operation_values import Operation

app = typer.Typer(help="Look at, and cancel, work that goes on in the service.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="The operation: `keyreeve operation list`.")]


@app.command("list")
def list_operations(
    *,
    limit: Annotated[int, typer.Option("--limit", min=1, help="At most this many.")] = 20,
    service: ServiceName = "ca",
    context: ContextFile = None,
    output: Output = Format.TABLE,
    quiet: Quiet = False,
) -> None:
    """List operations, the newest first."""
    with control_plane(context) as client:
        rows = [facts(one) for one in islice(client.service(service).operations.list(), limit)]
    Printer(output, quiet=quiet).rows(("name", "method", "state", "phase", "done", "total"), rows, essence="name")


@app.command("show")
def show(
    name: Name,
    *,
    service: ServiceName = "ca",
    context: ContextFile = None,
    output: Output = Format.TABLE,
    quiet: Quiet = False,
) -> None:
    """Show the state and progress of an operation."""
    with control_plane(context) as client:
        operation = client.service(service).operations.get(name)
    Printer(output, quiet=quiet).thing(facts(operation), essence="state")


@app.command("cancel")
def cancel(
    name: Name,
    *,
    service: ServiceName = "ca",
    context: ContextFile = None,
    output: Output = Format.TABLE,
    quiet: Quiet = False,
) -> None:
    """Ask an operation to end before it is done; what it has done stays."""
    with control_plane(context) as client:
        operation = client.service(service).operations.cancel(name)
    Printer(output, quiet=quiet).thing(facts(operation), essence="state")


def facts(operation: "Operation") -> dict[str, Any]:
    """An operation as plain values."""
    return {
        "name": operation.name.removeprefix("operations/"),
        "method": operation.method.rpartition("/")[2],
        "creator": operation.creator,
        "state": operation.state.value,
        "phase": operation.phase,
        "done": operation.done,
        "total": operation.total,
        "created_at": moment(operation.created_at),
        "ended_at": operation.ended_at and moment(operation.ended_at),
        "cancel_requested": operation.cancel_requested,
        "error_reason": operation.error_reason,
        "error_message": operation.error_message,
    }


def progress(operation: "Operation") -> str:
    """An operation in a line."""
    return f"{operation.name}: {operation.state.value}, {operation.done} of {operation.total} done"
