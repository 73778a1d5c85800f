"""Commands for the control plane on this machine: `up`, `down`, `doctor` etc."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from keyreeve.cli.exit_codes import Exit
from keyreeve.cli.local.recovery_commands import recovered
from keyreeve.cli.options import Directory, Output, Quiet, command_name, shown, typed_command
from keyreeve.cli.printing import Format, Printer, table, until
from keyreeve.cli.supervision.local_services import DEFAULT_DIRECTORY, DEFAULT_PORT, DEFAULT_TRUST_DOMAIN, SERVICES
from keyreeve.cli.supervision.state_directory import StateDirectory
from keyreeve.errors import ContextInvalid

if TYPE_CHECKING:
    from keyreeve.cli.local.starting import Started

_HERE = Path(DEFAULT_DIRECTORY)


def add_to(app: typer.Typer) -> None:
    """Add the commands of this module to the program."""
    for function in (up, down, restart, reset, status, settings, doctor):
        app.command(function.__name__)(function)


def up(
    directory: Directory = _HERE,
    trust_domain: Annotated[
        str | None,
        typer.Option(
            "--trust-domain",
            help=f"Trust domain of a new control plane; it cannot be changed later. Default: {DEFAULT_TRUST_DOMAIN}.",
        ),
    ] = None,
    port: Annotated[
        int,
        typer.Option(
            "--port",
            envvar="KEYREEVE_PORT",
            min=0,
            max=65_000,
            help="First port of a new control plane; ports in use are replaced by free ones. 0: free ports only.",
        ),
    ] = DEFAULT_PORT,
    output: Output = Format.TABLE,
    quiet: Quiet = False,
) -> None:
    """Start a control plane in the background and get a certificate for yourself.

    It returns when all services serve.

    The first start creates everything in the directory; later ones start what does not run. Your own certificate is issued
    again when it has expired or soon will.
    """
    from keyreeve.cli.local.starting import bring_up
    from keyreeve.identity import is_trust_domain

    if trust_domain is not None and not is_trust_domain(trust_domain):
        raise typer.BadParameter("it must be lower-case DNS labels, such as example.test", param_hint="--trust-domain")
    printer = Printer(output, quiet=quiet)
    state_directory = StateDirectory.at(directory)
    started = bring_up(
        state_directory, trust_domain=trust_domain, first_port=port, report=lambda text: printer.line(f"… {text}")
    )
    _print_start(printer, state_directory, started)


def _print_start(printer: Printer, state_directory: StateDirectory, started: "Started") -> None:
    from keyreeve.cli.local.local_operator import root_fingerprints, utc_now
    from keyreeve.cli.local.local_status import database_of
    from keyreeve.cli.supervision.local_services import read_addresses

    databases = {service.name: database_of(state_directory, service) for service in SERVICES}
    roots = root_fingerprints(state_directory)
    addresses = {service.name: read_addresses(state_directory, service) for service in SERVICES}
    operator = started.operator
    if printer.form is not Format.TABLE:
        printer.answer(
            {
                "directory": str(state_directory.root),
                "already_running": started.was_running,
                "trust_domain": addresses["ca"].trust_domain,
                "endpoints": {name: each.endpoint for name, each in addresses.items()},
                "databases": databases,
                "roots_sha256": roots,
                "identity": operator.identity,
                "not_after": operator.not_after.isoformat(),
                "verified_by": operator.verified_by,
                "recovery": started.recovery,
                "context": str(state_directory.context),
            },
            "",
        )
        return
    if started.recovery is not None:
        since = "" if started.expired_at is None else f" (yours {until(started.expired_at, utc_now())})"
        printer.done(f"recovered over the CA's local socket: certificates had expired{since}; the roots are unchanged")
        for line in recovered(started.recovery):
            printer.line(f"  {line}")
    printer.done("running already" if started.was_running else "running")
    other_databases = [place for place in databases.values() if place and not place.startswith("SQLite")]
    where = " and ".join([f"{shown(state_directory.root)}/", *other_databases])
    printer.line(f"  trust domain   {addresses['ca'].trust_domain}  (all data is in {where})")
    for line, prints in roots.items():
        for fingerprint in prints:
            printer.line(f"  {line + ' root':<14} sha256 {fingerprint}")
    for name, each in addresses.items():
        ports = (("health", each.health_port), ("metrics", each.metrics_port), ("SSH", each.ssh_port))
        others = ", ".join(f"{what} {port}" for what, port in ports if port is not None)
        printer.line(f"  {name:<14} {each.endpoint}  gRPC, mutual TLS   {others and f'({others})'}".rstrip())
    if started.issued:
        printer.done(f"certificate issued to you, verified by: {operator.verified_by}")
    printer.line(f"  you are        {operator.identity}")
    printer.line(f"  until          {until(operator.not_after, utc_now())}; `{command_name()} up` renews it")
    name = typed_command(state_directory)
    printer.line("try:")
    printer.line(f"  {name} cert issue web.dev.localhost --out web")
    printer.line(f"  {name} cert verify web/certificate.pem --for web.dev.localhost")
    printer.line(f"  {name} cert list")


def down(directory: Directory = _HERE, output: Output = Format.TABLE, quiet: Quiet = False) -> None:
    """Stop the control plane on this machine after the calls in progress.

    Nothing is deleted.
    """
    from keyreeve.cli.local.stopping import take_down

    printer = Printer(output, quiet=quiet)
    stopped = take_down(StateDirectory.at(directory))
    printer.answer({"stopped": stopped}, "stopped" if stopped else "nothing was running")


def restart(directory: Directory = _HERE, output: Output = Format.TABLE, quiet: Quiet = False) -> None:
    """Replace the worker processes one after the other; no call fails.

    Each new one serves before the old one drains. They take up changed settings under `listen.`; any other change is
    refused, and requires `down` and `up`.
    """
    from keyreeve.cli.local.restarting import replace_workers

    printer = Printer(output, quiet=quiet)
    printer.line("… replacing the workers")
    replaced = replace_workers(StateDirectory.at(directory))
    printer.answer({"replaced": replaced}, "replaced")


def reset(
    directory: Directory = _HERE,
    force: Annotated[bool, typer.Option("--force", envvar="FORCE", help="Do not ask for confirmation.")] = False,
    output: Output = Format.TABLE,
    quiet: Quiet = False,
) -> None:
    """Stop the control plane and delete it.

    Its keys, its ledger and your certificate are deleted, in PostgreSQL too. It cannot be undone.

    Exit code 1 when something is left, such as the schema in a database that does not answer.
    """
    from keyreeve.cli.local.stopping import databases_elsewhere, remove

    state_directory = StateDirectory.at(directory)
    if not state_directory.root.exists():
        Printer(output, quiet=quiet).answer({"removed": False}, f"{shown(state_directory.root)} does not exist")
        return
    if not state_directory.exists():
        raise typer.BadParameter(f"{shown(state_directory.root)} contains no control plane of `up`", param_hint="--dir")
    if not force:
        places = [
            f" and what it has made in {place}" for place in sorted({*databases_elsewhere(state_directory).values()})
        ]
        question = f"Delete {state_directory.root} with all its keys and certificates{''.join(places)}?"
        typer.confirm(question, abort=True, err=True)
    removed = remove(state_directory)
    lines = [
        f"{shown(state_directory.root)} has been deleted",
        *(f"{one} has been deleted" for one in removed.databases),
    ]
    lines += [f"left: {one}" for one in removed.left]
    document = {"removed": True, "databases": removed.databases, "left": removed.left}
    Printer(output, quiet=quiet).answer(document, "\n".join(lines))
    if removed.left:
        raise typer.Exit(Exit.REFUSED)


def _existing(directory: Path) -> StateDirectory:
    state_directory = StateDirectory.at(directory)
    if not state_directory.exists():
        raise ContextInvalid(
            f"there is no control plane in {shown(state_directory.root)}; `{command_name()} up` creates one"
        )
    return state_directory


def status(directory: Directory = _HERE, output: Output = Format.TABLE, quiet: Quiet = False) -> None:
    """Show the services on this machine, and the expiry of your certificate.

    Exit code 3 when a service does not serve, 1 when one cannot do its work: its database is away, issuance is halted, the
    vault is sealed.
    """
    from keyreeve.cli.local.local_operator import find_operator, utc_now
    from keyreeve.cli.local.local_status import status as status_of
    from keyreeve.cli.reference_commands import versions

    state_directory = _existing(directory)
    document = status_of(state_directory)
    operator = find_operator(state_directory)
    document["versions"] = versions()
    document["you"] = operator and {"identity": operator.identity, "not_after": operator.not_after.isoformat()}
    printer = Printer(output, quiet=quiet)
    columns = ("service", "state", "pid", "since", "restarts", "address", "health", "metrics")
    text = table(columns, document["services"])
    running = document["supervisor"]
    text += f"\nsupervisor  {'process ' + str(running['pid']) if running['pid'] else 'not running'}\n"
    text += f"directory   {document['directory']}\n"
    text += "versions    " + ", ".join(f"{name} {version}" for name, version in document["versions"].items()) + "\n"
    mine = f"{operator.identity} until {until(operator.not_after, utc_now())}" if operator else "no certificate"
    text += f"you         {mine}\n"
    problems = [f"{service['service']}: {one}" for service in document["services"] for one in service["problems"]]
    text += "".join(f"{printer.palette.red}✘{printer.palette.plain} {problem}\n" for problem in problems)
    serving = all(service["state"] == "serving" for service in document["services"])
    brief = "stopped" if not serving else "serving" if not problems else "hindered"
    printer.answer(document, text, brief=brief)
    if not serving:
        raise typer.Exit(Exit.NOT_REACHABLE)
    if problems:
        raise typer.Exit(Exit.REFUSED)


def settings(
    directory: Directory = _HERE,
    *,
    service: Annotated[str, typer.Option("--service", metavar="NAME", help="Which service.")] = "ca",
    output: Output = Format.TABLE,
    quiet: Quiet = False,
) -> None:
    """Print the settings of a service on this machine, and where each comes from."""
    from keyreeve.cli.supervision.service_program import ask

    known = {each.name: each for each in SERVICES}
    if service not in known:
        raise typer.BadParameter(f"{service!r} is not one of {', '.join(known)}", param_hint="--service")
    rows = ask("settings", _existing(directory).config(service), module=known[service].module)
    Printer(output, quiet=quiet).rows(("key", "value", "origin"), rows, brief="key")


def doctor(directory: Directory = _HERE, output: Output = Format.TABLE, quiet: Quiet = False) -> None:
    """Check clock, trust, ports, database, file modes and expiry.

    Every finding has a fix.

    Exit code 1 when there is an error (warnings do not count).
    """
    from keyreeve.cli.local.doctor import Severity, examine
    from keyreeve.cli.local.local_operator import utc_now

    printer = Printer(output, quiet=quiet)
    findings = examine(_existing(directory), utc_now())
    palette = printer.palette
    marks = {
        Severity.OK: f"{palette.green}✔{palette.plain}",
        Severity.WARNING: f"{palette.yellow}!{palette.plain}",
        Severity.ERROR: f"{palette.red}✘{palette.plain}",
    }
    text, brief = "", ""
    for finding in findings:
        line = f"{marks[finding.severity]} {finding.check}: {finding.message}\n"
        if finding.fix and finding.severity is not Severity.OK:
            line += f"    fix: {finding.fix}\n"
            brief += line
        text += line
    printer.answer([finding.document() for finding in findings], text, brief=brief)
    if any(finding.severity is Severity.ERROR for finding in findings):
        raise typer.Exit(Exit.REFUSED)
