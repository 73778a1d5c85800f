"""`keyreeve token` and `keyreeve enroll`: let an enrollee in, and be one. A token's text never goes on a command line."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from keyreeve.cli.calling import control_plane, load_context, read_lifetime
from keyreeve.cli.exit_codes import say
from keyreeve.cli.options import ContextFile, Output, Quiet
from keyreeve.cli.printing import Format, Printer, fields, moment
from keyreeve.errors import FileUnusable, TokenMalformed

if TYPE_CHECKING:
    from keyreeve.token_values import Token

app = typer.Typer(help="Make, list and revoke the one-time tokens that enrollees enroll with.", no_args_is_help=True)

_PREFIX = "krt1_"
_MOST_BYTES = 16_384


def add_to(program: typer.Typer) -> None:
    """Register `token` and `enroll`."""
    program.add_typer(app, name="token")
    program.command("enroll")(enroll)


@app.command("create")
def create(
    identity: Annotated[
        str,
        typer.Argument(
            metavar="IDENTITY",
            help="Whom it lets in: members/NAME, services/SERVICE/NAME, operators/ROLE/NAME, workloads/PATH or a SPIFFE ID.",
        ),
    ],
    *,
    lifetime: Annotated[
        str | None, typer.Option("--lifetime", help="Time to use it, such as 30m or 8h. Default: 1h; at most 24h.")
    ] = None,
    address: Annotated[
        str,
        typer.Option("--address", help="host:port at which the enrollee reaches the listener, if not the usual one."),
    ] = "",
    save: Annotated[
        Path | None,
        typer.Option("--save", help="Write the token to this file, for its owner alone, and print no secret."),
    ] = None,
    context: ContextFile = None,
    output: Output = Format.TABLE,
    quiet: Quiet = False,
) -> None:
    """Make a token for one identity. It is shown once: hand it over where nobody else sees it."""
    whole = identity if "://" in identity else f"spiffe://{load_context(context).trust_domain}/{identity}"
    with control_plane(context) as client:
        made = client.tokens.create(whole, lifetime=read_lifetime(lifetime), address=address)
    told = _row(made.token)
    if save is not None:
        _write_private(save, made.text)
        told["file"] = str(save)
    else:
        told["token"] = made.text
    Printer(output, quiet=quiet).answer(told, fields(told), essence=made.text if save is None else told["name"])


@app.command("list")
def list_tokens(context: ContextFile = None, output: Output = Format.TABLE, quiet: Quiet = False) -> None:
    """List the tokens of the last weeks in the order in which they were made. Secrets are kept nowhere."""
    with control_plane(context) as client:
        rows = [_row(token) for token in client.tokens.list()]
    columns = ("name", "identity", "state", "expires_at", "creator", "certificate")
    Printer(output, quiet=quiet).rows(columns, rows, essence="name")


@app.command("revoke")
def revoke(
    token: Annotated[str, typer.Argument(metavar="TOKEN", help="Its name: `keyreeve token list`. Not its text.")],
    context: ContextFile = None,
    output: Output = Format.TABLE,
    quiet: Quiet = False,
) -> None:
    """Revoke a token, so that nobody can come in with it. What came in already needs `keyreeve cert revoke`."""
    if token.startswith(_PREFIX):
        raise typer.BadParameter("give the token's name; its text is a secret and does not belong on a command line")
    with control_plane(context) as client:
        told = _row(client.tokens.revoke(token))
    Printer(output, quiet=quiet).answer(told, f"{told['name']} is revoked", essence=told["name"])


def enroll(
    token: Annotated[
        Path,
        typer.Argument(metavar="[FILE]", help="File that holds the token. Default, and -: standard input."),
    ] = Path("-"),
    *,
    directory: Annotated[
        Path, typer.Option("--dir", help="Directory to keep the identity in; nothing else belongs there.")
    ],
    timeout: Annotated[float, typer.Option("--timeout", min=1, help="Seconds to go on trying.")] = 60,
    output: Output = Format.TABLE,
    quiet: Quiet = False,
) -> None:
    """Turn a token into an identity: a key, a certificate and a context file that every command takes."""
    from keyreeve.enrollment import EnrollmentToken
    from keyreeve.enrollment import enroll as enroll_with

    read = EnrollmentToken.parse(_token_text(token))
    enroll_with(read, directory, timeout=timeout)
    from keyreeve.enrollee_files import EnrolleeFiles

    files = EnrolleeFiles(directory)
    told = {"identity": str(read.identity), "directory": str(directory), "context": str(files.context)}
    Printer(output, quiet=quiet).answer(
        told,
        f"enrolled as {read.identity}\nuse it with: --context {files.context} (or KEYREEVE_CONTEXT={files.context})",
        essence=str(files.context),
    )


def _token_text(place: Path) -> str:
    if str(place).startswith(_PREFIX):
        say("warning: everybody on this machine can read a command line; put the token in a file or on standard input")
        return str(place)
    try:
        if str(place) == "-":
            if sys.stdin.isatty():
                return str(typer.prompt("Token", hide_input=True, err=True))
            return sys.stdin.buffer.read(_MOST_BYTES).decode("ascii")
        with place.open("rb") as file:
            return file.read(_MOST_BYTES).decode("ascii")
    except OSError as problem:
        raise FileUnusable(f"cannot read {place}: {problem.strerror}") from problem
    except UnicodeDecodeError:
        raise TokenMalformed("what was given is not text, so it is no token") from None


def _write_private(path: Path, text: str) -> None:
    from keyreeve.cli.state_directory import write_file
    from keyreeve.files import PRIVATE

    write_file(path, f"{text}\n".encode(), mode=PRIVATE)


def _row(token: "Token") -> dict[str, Any]:
    return {
        "name": token.name.removeprefix("enrollmentTokens/"),
        "identity": token.identity,
        "state": token.state.value,
        "created_at": moment(token.created_at),
        "expires_at": moment(token.expires_at),
        "creator": token.creator,
        "certificate": token.certificate.removeprefix("certificates/"),
    }
