"""The options that many commands share."""

import os
from pathlib import Path
from typing import Annotated

import typer

from keyreeve.cli.completion import context_files
from keyreeve.cli.printing import Format
from keyreeve.cli.supervision.local_services import DEFAULT_DIRECTORY
from keyreeve.cli.supervision.state_directory import StateDirectory

Output = Annotated[Format, typer.Option("--output", "-o", help="Format of the output, and of an error.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print only names, serial numbers or nothing, for scripts.")]
Directory = Annotated[
    Path,
    typer.Option("--dir", envvar="KEYREEVE_DIR", help="Directory of the control plane on this machine."),
]
ContextFile = Annotated[
    Path | None,
    typer.Option(
        "--context",
        envvar="KEYREEVE_CONTEXT",
        help="Context file: control plane, certificate and key. Default: the nearest .keyreeve/context.json.",
        autocompletion=context_files,
    ),
]

ServiceName = Annotated[
    str,
    typer.Option("--service", help="Which service: a name under `endpoints` of the context file.", metavar="NAME"),
]


def command_name() -> str:
    """Return the command of this program: `keyreeve` if on the PATH, or its path."""
    import shutil
    import sys

    typed = Path(sys.argv[0])
    found = shutil.which("keyreeve")
    if found is not None and typed.exists() and Path(found).samefile(typed):
        return "keyreeve"
    if typed.name != "keyreeve":
        return "python -m keyreeve.cli"
    with_directory = os.path.relpath(typed)
    return with_directory if not with_directory.startswith("..") else str(typed.absolute())


def shown(path: Path) -> str:
    """Return a path relative to the working directory if it is below it."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative


def typed_command(state_directory: StateDirectory) -> str:
    """Return the command for a state directory, with its context if needed."""
    name = command_name()
    if state_directory.root == StateDirectory.at(Path(DEFAULT_DIRECTORY)).root:
        return name
    return f"KEYREEVE_CONTEXT={shown(state_directory.context)} {name}"
