"""The command tree, and the one place that turns errors into text and exit codes."""

import contextlib
import errno
import io
import os
import sys
from typing import Annotated, NoReturn

import typer

from keyreeve.cli import reference_commands
from keyreeve.cli.administration import (
    audit_commands,
    authority_commands,
    bench_commands,
    issuance_commands,
    operation_commands,
    operator_commands,
    profile_commands,
    session_commands,
    ssh_key_commands,
    token_commands,
)
from keyreeve.cli.arrays import array_commands, bundle_commands, change_commands, member_commands, rotation_commands
from keyreeve.cli.certificates import (
    blocked_key_commands,
    certificate_commands,
    crl_commands,
    reading_commands,
    renewal_commands,
    revocation_commands,
)
from keyreeve.cli.exit_codes import Exit, error_document, error_text, exit_code, print_error
from keyreeve.cli.local import control_plane_commands, recovery_commands
from keyreeve.cli.printing import Format, Palette, dump
from keyreeve.cli.tour import tour_command
from keyreeve.cli.vault import (
    entry_commands,
    file_checks,
    file_commands,
    key_commands,
    object_commands,
    policy_commands,
    resolution_commands,
)
from keyreeve.cli.whole_help import show_whole_help
from keyreeve.errors import KeyreeveError

app = typer.Typer(
    name="keyreeve",
    help="Run a certificate authority on this machine, and request certificates from one.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # its tables cut long values on a terminal of 80 columns
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 done, 1 refused, 2 wrong usage, 3 not reachable, 4 not allowed.",
)


def _print_version(wanted: bool) -> None:  # as typer calls it
    if wanted:
        from importlib.metadata import version

        typer.echo(f"keyreeve {version('keyreeve')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Run a certificate authority on this machine, and request certificates from one."""


control_plane_commands.add_to(app)
reference_commands.add_to(app)
reading_commands.add_to(certificate_commands.app)
renewal_commands.add_to(certificate_commands.app)
tour_command.add_to(app)
revocation_commands.add_to(certificate_commands.app)
app.add_typer(certificate_commands.app, name="cert")
app.add_typer(authority_commands.app, name="authority")
app.add_typer(crl_commands.app, name="crl")
app.add_typer(blocked_key_commands.app, name="blocked-key")
app.add_typer(operation_commands.app, name="operation")
app.add_typer(profile_commands.app, name="profile")
token_commands.add_to(app)
app.command("renew-daemon")(renewal_commands.renew_daemon)
app.add_typer(bench_commands.app, name="bench")
app.add_typer(recovery_commands.app, name="recover")
operator_commands.add_to(app)
app.add_typer(operator_commands.app, name="operator")
operator_commands.app.add_typer(ssh_key_commands.app, name="ssh-key")
app.add_typer(session_commands.app, name="session")
app.add_typer(issuance_commands.app, name="issuance")
app.add_typer(audit_commands.app, name="audit")
entry_commands.app.add_typer(policy_commands.app, name="policy")
change_commands.add_to(array_commands.app)
app.add_typer(array_commands.app, name="array")
app.add_typer(member_commands.app, name="member")
app.add_typer(rotation_commands.app, name="rotation")
app.add_typer(bundle_commands.app, name="bundle")
object_commands.add_to(entry_commands.app)
resolution_commands.add_to(entry_commands.app)
key_commands.add_to(entry_commands.app)
file_checks.add_to(file_commands.app)
entry_commands.app.add_typer(file_commands.app, name="file")
app.add_typer(entry_commands.app, name="vault")
show_whole_help(app)


_STANDARD_OUTPUT, _STANDARD_ERROR = 1, 2
_OUTPUT_LOST = frozenset({errno.EPIPE, errno.ENOSPC, errno.EDQUOT, errno.EBADF})
"""Errors of writing to standard output. Those of files are `FileUnusable`."""
_PYDANTIC_PREFIX = "Value error, "
"""What pydantic puts before the message of a validator."""


def run(arguments: list[str] | None = None) -> NoReturn:
    """Run a command line, by default that of this process, and exit."""
    arguments = sys.argv[1:] if arguments is None else arguments
    _open_closed_streams()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # what a locale cannot show must not end a command
    code = run_command(arguments)
    try:
        sys.stdout.flush()
    except OSError as problem:
        code = _output_lost(problem) or code
    sys.exit(code)


def _open_closed_streams() -> None:
    """Open standard streams that the caller has closed (`>&-`), or the next file or socket would get their numbers.

    Standard output gets one that cannot be written: commands whose result goes there say so before they ask anything.
    """
    while (descriptor := os.open(os.devnull, os.O_RDONLY)) <= _STANDARD_ERROR:
        if descriptor == _STANDARD_ERROR:
            os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)
    os.close(descriptor)
    sys.stdout = sys.stdout or open(_STANDARD_OUTPUT, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = sys.stderr or open(_STANDARD_ERROR, "w", encoding="utf-8", closefd=False)  # noqa: SIM115


def _output_lost(problem: OSError) -> int:
    """Discard what is left of the output; what the command did is done. Returns the exit code."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if not isinstance(problem, BrokenPipeError):  # whose reader has ended (`keyreeve cert list | head`)
        print_error(f"error: cannot write standard output: {problem.strerror}")
    return Exit.REFUSED


def run_command(arguments: list[str]) -> int:
    """Run a command line and return its exit code.

    Its output and errors have been printed.
    """
    form = requested_format(arguments)
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")  # its notes about failed handshakes are no output of a command
    if "://" in os.environ.get("KEYREEVE_PORT", ""):
        del os.environ["KEYREEVE_PORT"]  # Kubernetes sets it beside a Service called keyreeve
    try:
        code = app(arguments, standalone_mode=False)
    except KeyreeveError as error:
        _report(error, form)
        return exit_code(error)
    except KeyboardInterrupt:
        return Exit.INTERRUPTED
    except typer.Abort:
        # At a prompt: no, Ctrl-C, or the end of standard input. The cursor stands behind the question.
        print_error("\nnot done: the question was not answered, or not with yes")
        return Exit.INTERRUPTED
    except OSError as problem:
        if problem.errno not in _OUTPUT_LOST:
            raise
        return _output_lost(problem)
    except typer.TyperException as problem:
        _report_usage(problem, form)
        return Exit.USAGE
    return code if isinstance(code, int) else Exit.DONE


def requested_format(arguments: list[str]) -> Format:
    """Find `--output` before the arguments are parsed, for usage errors."""
    for i, argument in enumerate(arguments):
        for spelling in ("--output", "-o"):
            with contextlib.suppress(ValueError, IndexError):
                if argument == spelling:
                    return Format(arguments[i + 1])
                if argument.startswith(f"{spelling}="):
                    return Format(argument.partition("=")[2])
    return Format.TABLE


def _report(error: KeyreeveError, form: Format) -> None:
    if form is Format.TABLE:
        palette = Palette.of(sys.stderr)
        print_error(error_text(error, red=palette.red, plain=palette.plain))
    else:
        sys.stderr.write(dump(error_document(error), form))


def _report_usage(problem: typer.TyperException, form: Format) -> None:
    if isinstance(text := getattr(problem, "message", None), str):
        problem.message = text.replace(_PYDANTIC_PREFIX, "")
    show = getattr(problem, "show", None)  # usage errors print how their command is used
    if form is not Format.TABLE:
        sys.stderr.write(dump({"error": {"reason": "USAGE", "message": problem.format_message()}}, form))
    elif show is not None:
        show()
    else:
        print_error(f"error: {problem.format_message()}")
