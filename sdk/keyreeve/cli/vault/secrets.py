"""Secrets of a command: read from a prompt, a file or standard input, never from the command line."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from keyreeve.errors import FileUnusable

if TYPE_CHECKING:
    from keyreeve.plaintext import Plaintext

_MAX_BYTES = 4_097

SecretFile = Annotated[
    Path | None,
    typer.Option(
        "--secret-file",
        help="File that holds the secret, `-` for standard input; one line break at its end is left out. "
        "Default: a prompt, or standard input if that is no terminal.",
    ),
]


def read_secret(file: Path | None) -> "Plaintext":
    """Read a secret. Raises `FileUnusable`."""
    from keyreeve.plaintext import Plaintext

    if file is None and sys.stdin.isatty():
        typed = typer.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
        return Plaintext.of(str(typed))
    try:
        if file is None or str(file) == "-":
            data = sys.stdin.buffer.read(_MAX_BYTES)
        else:
            with file.open("rb") as opened:
                data = opened.read(_MAX_BYTES)
    except OSError as problem:
        raise FileUnusable(f"cannot read {file}: {problem.strerror}") from problem
    return Plaintext(data.removesuffix(b"\n").removesuffix(b"\r"))


def write_secret(secret: "Plaintext") -> None:
    """Write a secret to standard output, as it is."""
    sys.stdout.flush()
    sys.stdout.buffer.write(secret.reveal())
    if sys.stdout.isatty():
        sys.stdout.buffer.write(b"\n")
    sys.stdout.buffer.flush()
