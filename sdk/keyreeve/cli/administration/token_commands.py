"""`keyreeve token` and `keyreeve enroll`: create enrollment tokens and use them.

Tokens are not taken as arguments.
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from keyreeve.cli.calling import control_plane, load_context, read_lifetime
from keyreeve.cli.exit_codes import print_error
from keyreeve.cli.options import ContextFile, Output, Quiet
from keyreeve.cli.printing import Format, Printer, fields, moment
from keyreeve.errors import FileUnusable, TokenMalformed

if TYPE_CHECKING:
    from keyreeve.enrollment_token import EnrollmentToken
    from keyreeve.token_values import Token

app = typer.Typer(help="Create, list and revoke one-time enrollment tokens.", no_args_is_help=True)

_PREFIX = "krt1_"
_MAX_BYTES = 16_384


def add_to(program: typer.Typer) -> None:
    """Add `token` and `enroll` to the program."""
    program.add_typer(app, name="token")
    program.command("enroll")(enroll)


@app.command("create")
def create_token(
    identity: Annotated[
        str,
        typer.Argument(
            metavar="IDENTITY",
            help="Identity: members/NAME, services/SERVICE/NAME, operators/ROLE/NAME, workloads/PATH, or a SPIFFE ID.",
        ),
    ],
    *,
    lifetime: Annotated[
        str | None,
        typer.Option("--lifetime", help="Time until it expires unused, such as 30m or 8h. Default: 1h; at most 24h."),
    ] = None,
    address: Annotated[
        str,
        typer.Option("--address", help="host:port of the enrollment listener as the enrollee reaches it."),
    ] = "",
    save: Annotated[
        Path | None,
        typer.Option("--save", help="Write the token to this file (mode 0600) instead of printing it."),
    ] = None,
    context: ContextFile = None,
    output: Output = Format.TABLE,
    quiet: Quiet = False,
) -> None:
    """Create a token for one identity.

    It is shown once; transfer it over a confidential channel.
    """
    from keyreeve.cli.certificates.certificate_files import STANDARD_STREAM, check_writable

    check_writable(save or STANDARD_STREAM)  # the token is shown once
    whole = identity if "://" in identity else f"spiffe://{load_context(context).trust_domain}/{identity}"
    with control_plane(context) as client:
        made = client.tokens.create(whole, lifetime=read_lifetime(lifetime), address=address)
    row = _row(made.token)
    if save is not None:
        _write_private(save, made.text)
        row["file"] = str(save)
    else:
        row["token"] = made.text
    Printer(output, quiet=quiet).answer(row, fields(row), brief=made.text if save is None else row["name"])


@app.command("list")
def list_tokens(context: ContextFile = None, output: Output = Format.TABLE, quiet: Quiet = False) -> None:
    """List the tokens that ended less than 30 days ago, oldest first.

    Secrets are not included.
    """
    with control_plane(context) as client:
        rows = [_row(token) for token in client.tokens.list()]
    columns = ("name", "identity", "state", "expires_at", "creator", "certificate")
    Printer(output, quiet=quiet).rows(columns, rows, brief="name")


@app.command("revoke")
def revoke_token(
    token: Annotated[
        str, typer.Argument(metavar="TOKEN", help="Name of the token (`keyreeve token list`), not its text.")
    ],
    context: ContextFile = None,
    output: Output = Format.TABLE,
    quiet: Quiet = False,
) -> None:
    """Revoke a token.

    A certificate that was issued for it is revoked by `keyreeve cert revoke`.
    """
    if token.startswith(_PREFIX):
        raise typer.BadParameter("give the token's name; its text is a secret and must not be on a command line")
    with control_plane(context) as client:
        row = _row(client.tokens.revoke(token))
    Printer(output, quiet=quiet).answer(row, f"{row['name']} is revoked", brief=row["name"])


def enroll(
    token: Annotated[
        Path,
        typer.Argument(metavar="[FILE]", help="File that contains the token. Default: standard input."),
    ] = Path("-"),
    *,
    directory: Annotated[Path, typer.Option("--dir", help="Directory for the identity; it must contain nothing else.")],
    timeout: Annotated[float, typer.Option("--timeout", min=1, help="Time limit in seconds.")] = 60,
    account: Annotated[
        str,
        typer.Option(
            "--kubernetes", metavar="HOST:PORT", help="The CA's enrollment listener: enroll by this pod's account."
        ),
    ] = "",
    account_token: Annotated[
        Path, typer.Option("--account-token", help="With --kubernetes: file of the projected ServiceAccount token.")
    ] = Path("/var/run/secrets/keyreeve/token"),
    bundle: Annotated[
        Path,
        typer.Option("--bundle", help="With --kubernetes: roots of the control hierarchy, as the CA publishes them."),
    ] = Path("/etc/keyreeve/bundle/control.pem"),
    trust_domain: Annotated[str, typer.Option("--trust-domain", help="With --kubernetes: the trust domain.")] = "",
    output: Output = Format.TABLE,
    quiet: Quiet = False,
) -> None:
    """Enroll with a token, or by the account of this Kubernetes pod.

    It generates a key, gets a certificate and writes a context file for all commands.
    """
    from keyreeve.enrollment import EnrollmentToken
    from keyreeve.enrollment import enroll as enroll_with

    given = _exchanged(account, account_token, bundle, trust_domain) if account else None
    read = given or EnrollmentToken.parse(_token_text(token))
    enroll_with(read, directory, timeout=timeout)
    from keyreeve.enrollee_files import EnrolleeFiles

    files = EnrolleeFiles(directory)
    Printer(output, quiet=quiet).answer(
        {"identity": str(read.identity), "directory": str(directory), "context": str(files.context)},
        f"enrolled as {read.identity}\nuse it with: --context {files.context} (or KEYREEVE_CONTEXT={files.context})",
        brief=str(files.context),
    )


def _exchanged(address: str, account_token: Path, bundle: Path, trust_domain: str) -> "EnrollmentToken":
    from keyreeve.enrollment import exchange_service_account_token

    try:
        text, roots = account_token.read_text("ascii").strip(), bundle.read_bytes()
    except (OSError, UnicodeDecodeError) as problem:
        raise FileUnusable(f"cannot read {account_token} or {bundle}: {problem}") from problem
    return exchange_service_account_token(text, address=address, roots=roots, trust_domain=trust_domain)


def _token_text(place: Path) -> str:
    if str(place).startswith(_PREFIX):
        print_error(
            "warning: other users of this machine can read command lines; pass the token in a file or on standard input"
        )
        return str(place)
    try:
        if str(place) == "-":
            if sys.stdin.isatty():
                return str(typer.prompt("Token", hide_input=True, err=True))
            return sys.stdin.buffer.read(_MAX_BYTES).decode("ascii")
        with place.open("rb") as file:
            return file.read(_MAX_BYTES).decode("ascii")
    except OSError as problem:
        raise FileUnusable(f"cannot read {place}: {problem.strerror}") from problem
    except UnicodeDecodeError:
        raise TokenMalformed("what was given is not text, so it is no token") from None


def _write_private(path: Path, text: str) -> None:
    from keyreeve.cli.supervision.state_directory import write_file
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
