"""`keyreeve recover`: replace expired certificates over the CA's local socket."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from keyreeve.cli.exit_codes import Exit
from keyreeve.cli.options import Directory, Output, Quiet, command_name, shown
from keyreeve.cli.printing import Format, Printer, moment
from keyreeve.cli.supervision.local_services import DEFAULT_DIRECTORY
from keyreeve.cli.supervision.state_directory import StateDirectory
from keyreeve.errors import ContextInvalid, ServiceUnreachable

_HERE = Path(DEFAULT_DIRECTORY)

app = typer.Typer(help="Replace expired CAs and certificates over the local socket of the CA; roots stay.")


@app.callback(invoke_without_command=True)
def recover(
    context: typer.Context, directory: Directory = _HERE, output: Output = Format.TABLE, quiet: Quiet = False
) -> None:
    """Replace expired CAs and certificates over the CA's local socket; roots stay.

    `keyreeve up` does so by itself. It works even when every certificate has expired, including the issuing CA's.
    """
    if context.invoked_subcommand is not None:
        return
    report = _recover(directory)
    Printer(output, quiet=quiet).answer(report, "".join(f"{line}\n" for line in recovered(report)))
    if report["dead_hierarchies"]:
        raise typer.Exit(Exit.REFUSED)


@app.command("operator")
def recover_operator(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the admin, the last part of the identity.")],
    *,
    address: Annotated[str, typer.Option("--address", help="host:port of the enrollment listener.")] = "",
    directory: Directory = _HERE,
    output: Output = Format.TABLE,
    quiet: Quiet = False,
) -> None:
    """Recover, and create a one-time token for an admin.

    It is for the first admin, or for one without a usable certificate.
    """
    report = _recover(directory, "--operator", name, *(("--address", address) if address else ()))
    invitation = report["invitation"]
    until = moment(datetime.fromtimestamp(invitation["expires_at"], UTC))
    text = "".join(f"{line}\n" for line in recovered(report))
    text += f"\nGive this token to {name} only; it works once, until {until}:\n\n{invitation['token']}\n"
    text += f"\nOn their machine: {command_name()} operator accept --dir DIRECTORY, then paste the token.\n"
    Printer(output, quiet=quiet).answer(report, text, brief=invitation["token"])


@app.command("issuance")
def recover_issuance(
    *,
    reason: Annotated[str, typer.Option("--reason", help="Why, for the audit log.")],
    directory: Directory = _HERE,
    output: Output = Format.TABLE,
    quiet: Quiet = False,
) -> None:
    """Resume halted issuance over the CA's local socket, without a second person.

    It is for a new control plane, in which nobody has been known for 7 days.
    """
    report = _ask("resume-issuance", directory, "--reason", reason)
    Printer(output, quiet=quiet).answer(report, "issuance goes on; the audit log has the reason\n")


@app.command("trust-tables")
def recover_trust_tables(
    *,
    service: Annotated[str, typer.Option("--service", help="The service whose tables they are.")] = "ca",
    seal: Annotated[bool, typer.Option("--seal", help="Accept the tables as they are.")] = False,
    directory: Directory = _HERE,
    output: Output = Format.TABLE,
    quiet: Quiet = False,
) -> None:
    """Show what something other than the service has changed in its trust tables, or accept them as they are.

    Nothing is issued while there is a difference. Restoring the database is the other way out.
    """
    report = _ask("trust-tables", directory, *(("--seal",) if seal else ()), service=service)
    lines = [
        f"{one['table']}{'/' if one['key'] else ''}{one['key']}: {one['problem']}" for one in report["alterations"]
    ]
    if not lines:
        lines = ["the trust tables are as the service left them"]
    elif seal:
        lines.append("accepted: the tables are sealed as they are, and the audit log names the difference")
    Printer(output, quiet=quiet).answer(report, "".join(f"{line}\n" for line in lines))
    if report["alterations"] and not seal:
        raise typer.Exit(Exit.REFUSED)


def recovered(report: dict[str, Any]) -> list[str]:
    """Describe what a recovery did, one line each."""
    lines = [
        f"{one['authority']} was created under {one['root']}, since {', '.join(one['expired']) or 'no other'} had expired"
        for one in report["replacements"]
    ]
    lines += [
        f"the root of the {hierarchy} hierarchy has expired: create another, and distribute it to all relying parties"
        for hierarchy in report["dead_hierarchies"]
    ]
    return [*lines, "the CA service has issued itself a new certificate"]


def _recover(directory: Path, *arguments: str) -> dict[str, Any]:
    return _ask("recover", directory, *arguments)


def _ask(subcommand: str, directory: Path, *arguments: str, service: str = "ca") -> dict[str, Any]:
    """Run a subcommand of a service's program on this machine."""
    from keyreeve.cli.supervision.service_program import NotThereYet, ask

    state_directory = StateDirectory.at(directory)
    if not state_directory.exists():
        raise ContextInvalid(
            f"there is no control plane in {shown(state_directory.root)}; `{command_name()} up` creates one"
        )
    try:
        config = state_directory.config(service)
        report: dict[str, Any] = ask(subcommand, config, *arguments, module=f"keyreeve_{service}")
    except NotThereYet:
        raise ServiceUnreachable(
            f"the service {service} does not run here: `{command_name()} up` starts it and recovers"
        ) from None
    return report
