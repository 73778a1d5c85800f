"""`keyreeve session`: operators' sessions at gateways."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from keyreeve.cli.calling import control_plane
from keyreeve.cli.options import ContextFile, Output, Quiet
from keyreeve.cli.printing import Format, Printer, fields, moment

if TYPE_CHECKING:
    from keyreeve.session_values import OperatorSession

app = typer.Typer(help="List and close operators' sessions at gateways.", no_args_is_help=True)

Session = Annotated[str, typer.Argument(metavar="SESSION", help="The session, as `list` shows it.")]


@app.command("list")
def list_sessions(context: ContextFile = None, output: Output = Format.TABLE, quiet: Quiet = False) -> None:
    """List the sessions that have not ended.

    Operators see their own, admins and auditors all.
    """
    with control_plane(context) as client:
        rows = [_row(one) for one in client.sessions.list()]
    columns = ("session", "identity", "gateway", "client", "method", "opened_at", "ends_at")
    Printer(output, quiet=quiet).rows(columns, rows, brief="session")


@app.command("close")
def close_session(
    session: Session, context: ContextFile = None, output: Output = Format.TABLE, quiet: Quiet = False
) -> None:
    """Close a session: every service refuses its calls within 5 seconds.

    Operators close their own, admins any.
    """
    with control_plane(context) as client:
        document = _row(client.sessions.close(session))
    Printer(output, quiet=quiet).answer(document, fields(document), brief=document["session"])


def _row(session: "OperatorSession") -> dict[str, Any]:
    return {
        "session": session.name.removeprefix("sessions/"),
        "identity": session.identity,
        "gateway": session.gateway,
        "client": session.client_address,
        "method": session.method.value,
        "credential": session.credential,
        "opened_at": moment(session.opened_at),
        "ends_at": moment(session.ends_at),
        "closed_at": None if session.closed_at is None else moment(session.closed_at),
        "closed_by": session.closed_by,
    }
