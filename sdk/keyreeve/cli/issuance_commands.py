"""`keyreeve issuance`: the switch that stops issuance everywhere."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from keyreeve.cli.calling import control_plane
from keyreeve.cli.options import ContextFile, Output, Quiet
from keyreeve.cli.printing import Format, Printer, fields, moment

if TYPE_CHECKING:
    from datetime import datetime

    from keyreeve.values import IssuanceState

app = typer.Typer(help="Stop issuance everywhere, let it go on, and see whether it is stopped.", no_args_is_help=True)

Reason = Annotated[str, typer.Option("--reason", "-r", help="Why; it is kept, and shown to everybody who operates.")]


@app.command("halt")
def halt(reason: Reason, context: ContextFile = None, output: Output = Format.TABLE, quiet: Quiet = False) -> None:
    """Stop issuance at once. What has been issued stays valid, and reads and revocation go on."""
    with control_plane(context) as client:
        _tell(Printer(output, quiet=quiet), client.issuance.halt(reason))


@app.command("resume")
def resume(reason: Reason, context: ContextFile = None, output: Output = Format.TABLE, quiet: Quiet = False) -> None:
    """Let issuance go on; where that takes two people, approve it, or be the second."""
    printer = Printer(output, quiet=quiet)
    with control_plane(context) as client:
        state = client.issuance.resume(reason)
    _tell(printer, state)
    if state.halted:
        printer.line("approved; another admin has to run the same command within an hour")


@app.command("status")
def status(context: ContextFile = None, output: Output = Format.TABLE, quiet: Quiet = False) -> None:
    """Say whether issuance is halted: since when, by whom, why."""
    with control_plane(context) as client:
        _tell(Printer(output, quiet=quiet), client.issuance.state())


def _tell(printer: Printer, state: "IssuanceState") -> None:
    document = _document(state)
    printer.answer(document, fields({k: v for k, v in document.items() if v not in ("", None)}), essence=state.status)


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
