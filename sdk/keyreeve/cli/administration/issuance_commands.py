"""`keyreeve issuance`: the switch that stops issuance everywhere."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from keyreeve.cli.calling import control_plane
from keyreeve.cli.options import ContextFile, Output, Quiet
from keyreeve.cli.printing import Format, Printer, fields, moment

if TYPE_CHECKING:
    from datetime import datetime

    from keyreeve.values import IssuanceState

app = typer.Typer(help="Halt and resume issuance everywhere.", no_args_is_help=True)

Reason = Annotated[str, typer.Option("--reason", "-r", help="Reason, which is recorded and shown to all operators.")]


@app.command("halt")
def halt_issuance(
    reason: Reason, context: ContextFile = None, output: Output = Format.TABLE, quiet: Quiet = False
) -> None:
    """Halt issuance. Issued certificates stay valid; reads and revocation continue."""
    with control_plane(context) as client:
        _print_state(Printer(output, quiet=quiet), client.issuance.halt(reason))


@app.command("resume")
def resume_issuance(
    reason: Reason, context: ContextFile = None, output: Output = Format.TABLE, quiet: Quiet = False
) -> None:
    """Resume issuance.

    Where that requires two operators, approve as the first or the second.
    """
    printer = Printer(output, quiet=quiet)
    with control_plane(context) as client:
        state = client.issuance.resume(reason)
    _print_state(printer, state)
    if state.halted:
        printer.line("approved; another admin has to run the same command within an hour")


@app.command("status")
def show_issuance_state(context: ContextFile = None, output: Output = Format.TABLE, quiet: Quiet = False) -> None:
    """Print whether issuance is halted, since when, by whom and why."""
    with control_plane(context) as client:
        _print_state(Printer(output, quiet=quiet), client.issuance.state())


def _print_state(printer: Printer, state: "IssuanceState") -> None:
    document = _document(state)
    printer.answer(document, fields({k: v for k, v in document.items() if v not in ("", None)}), brief=state.status)


def _document(state: "IssuanceState") -> dict[str, Any]:
    return {
        "issuance": state.status.value,
        "halted_at": _when(state.halted_at),
        "halted_by": state.halted_by,
        "halt_reason": state.halt_reason,
        "approved_at": _when(state.approved_at),
        "approved_by": state.approved_by,
        "resumed_at": _when(state.resumed_at),
        "resumed_by": state.resumed_by,
        "resume_reason": state.resume_reason,
        "resume_needs_two": state.resume_needs_two,
    }


def _when(time: "datetime | None") -> str | None:
    return None if time is None else moment(time)
