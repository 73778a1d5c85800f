"""`keyreeve recover`: the way back over the local socket of the CA on this machine, when no certificate works any more."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from keyreeve.cli.exit_codes import Exit
from keyreeve.cli.local_services import DEFAULT_DIRECTORY
from keyreeve.cli.options import Directory, Output, Quiet, command_name, shown
from keyreeve.cli.printing import Format, Printer, moment
from keyreeve.cli.state_directory import StateDirectory
from keyreeve.errors import ContextInvalid, ServiceUnreachable

_HERE = Path(DEFAULT_DIRECTORY)

app = typer.Typer(help="Replace what has expired while nobody looked, over the local socket of the CA; roots stay.")


@app.callback(invoke_without_command=True)
def recover(
    context: typer.Context, directory: Directory = _HERE, output: Output = Format.TABLE, quiet: Quiet = False
) -> None:
    """Replace what has expired while nobody looked, over the local socket of the CA on this machine; roots stay.

    `keyreeve up` does it by itself. It works when every certificate has expired, the issuing CA's too.
    """
    if context.invoked_subcommand is not None:
        return
    report = _ask(directory)
    Printer(output, quiet=quiet).answer(report, "".join(f"{line}\n" for line in recovered(report)))
    if report["dead_hierarchies"]:
        raise typer.Exit(Exit.REFUSED)


@app.command("operator")
def operator(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The admin's name, the last part of the identity.")],
    *,
    address: Annotated[str, typer.Option("--address", help="host:port of the enrollment listener.")] = "",
    directory: Directory = _HERE,
    output: Output = Format.TABLE,
    quiet: Quiet = False,
) -> None:
    """Recover, and make a one-time token for an admin: the first one, or one who has lost every certificate."""
    report = _ask(directory, "--operator", name, *(("--address", address) if address else ()))
    invitation = report["invitation"]
    until = moment(datetime.fromtimestamp(invitation["expires_at"], UTC))
    text = "".join(f"{line}\n" for line in recovered(report))
    text += f"\nGive this token to {name}, and to nobody else; it works once, until {until}:\n\n{invitation['token']}\n"
    text += f"\nThere: {command_name()} operator accept --dir DIRECTORY, and paste the token.\n"
    Printer(output, quiet=quiet).answer(report, text, essence=invitation["token"])


def recovered(report: dict[str, Any]) -> list[str]:
    """What a recovery did, a line each."""
    lines = [
        f"{one['authority']} was made under {one['root']}, for {', '.join(one['expired']) or 'no other'} had expired"
        for one in report["replacements"]
    ]
    lines += [
        f"the root of the {hierarchy} hierarchy has expired: make another, and give it to all who trust it"
        for hierarchy in report["dead_hierarchies"]
    ]
    return [*lines, "the service has certified itself anew"]


def _ask(directory: Path, *arguments: str) -> dict[str, Any]:
    from keyreeve.cli.local_operator import recover as recover_at
    from keyreeve.cli.service_program import NotThereYet

    state_directory = StateDirectory.at(directory)
    if not state_directory.exists():
        raise ContextInvalid(
            f"there is no control plane in {shown(state_directory.root)}; `{command_name()} up` makes one"
        )
    try:
        return recover_at(state_directory, *arguments)
    except NotThereYet:
        raise ServiceUnreachable(f"the CA does not run here: `{command_name()} up` starts it, and recovers") from None
