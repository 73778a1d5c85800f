"""`keyreeve operation`: work that continues after the call that started it."""

from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any

import typer

from keyreeve.cli.calling import control_plane
from keyreeve.cli.options import ContextFile, Output, Quiet, ServiceName
from keyreeve.cli.printing import Format, Printer, fields, moment, table, tell_of_more

if TYPE_CHECKING:
    from keyreeve.operation_values import Operation, Waiting

app = typer.Typer(help="List, show and cancel operations of a service.", no_args_is_help=True)

_COLUMNS = ("name", "method", "state", "phase", "done", "total")

Name = Annotated[str, typer.Argument(help="Name of the operation (`keyreeve operation list`).")]


@app.command("list")
def list_operations(
    *,
    limit: Annotated[int, typer.Option("--limit", min=1, help="At most this many.")] = 20,
    service: ServiceName = "ca",
    context: ContextFile = None,
    output: Output = Format.TABLE,
    quiet: Quiet = False,
) -> None:
    """List operations, newest first."""
    with control_plane(context) as client:
        listed = client.service(service).operations.list()
        found = list(islice(listed, limit))
        tell_of_more(listed, limit)
    columns = (*_COLUMNS, "waiting") if any(one.waiting for one in found) else _COLUMNS
    Printer(output, quiet=quiet).answer(
        [operation_fields(one) for one in found],
        table(columns, [_lines(one) for one in found]),
        brief="".join(f"{operation_fields(one)['name']}\n" for one in found),
    )


@app.command("show")
def show_operation(
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
    _show(operation, Printer(output, quiet=quiet))


@app.command("watch")
def watch_operation(
    name: Name,
    *,
    service: ServiceName = "ca",
    context: ContextFile = None,
    output: Output = Format.TABLE,
    quiet: Quiet = False,
) -> None:
    """Print the progress of an operation until it has ended."""
    printer, last = Printer(output, quiet=quiet), None
    with control_plane(context) as client:
        for last in client.service(service).operations.watch(name):
            printer.line(progress(last))
    assert last is not None, "a watched operation is sent once at least"
    printer.answer(operation_fields(last), "", brief=last.state.value)


@app.command("cancel")
def cancel_operation(
    name: Name,
    *,
    service: ServiceName = "ca",
    context: ContextFile = None,
    output: Output = Format.TABLE,
    quiet: Quiet = False,
) -> None:
    """Request that an operation stop early; what it has done stays."""
    with control_plane(context) as client:
        operation = client.service(service).operations.cancel(name)
    _show(operation, Printer(output, quiet=quiet))


def operation_fields(operation: "Operation") -> dict[str, Any]:
    """Return an operation as plain values."""
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
        "waiting": [
            {"resource": one.resource, "reason": one.reason, "since": moment(one.since)} for one in operation.waiting
        ],
    }


def progress(operation: "Operation") -> str:
    """Return an operation as one line of text."""
    line = f"{operation.name}: {operation.state.value}"
    if operation.total:
        line += f", {operation.done} of {operation.total} done"
    return "; ".join([line, *(f"waiting for {_condition(one)}" for one in operation.waiting)])


def _show(operation: "Operation", printer: Printer) -> None:
    printer.answer(operation_fields(operation), fields(_lines(operation)), brief=operation.state.value)


def _lines(operation: "Operation") -> dict[str, Any]:
    """Return an operation as values to print, with its conditions as lines."""
    lines = operation_fields(operation)
    del lines["waiting"]
    return lines | ({"waiting": [_condition(one) for one in operation.waiting]} if operation.waiting else {})


def _condition(waiting: "Waiting") -> str:
    return f"{waiting.resource}: {waiting.reason} (since {moment(waiting.since)})"
