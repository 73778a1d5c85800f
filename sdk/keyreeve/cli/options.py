"""The options that many commands share."""

import os
from pathlib import Path
from typing import Annotated

import typer

from keyreeve.cli.local_services import DEFAULT_DIRECTORY
from keyreeve.cli.printing import Format
from keyreeve.cli.state_directory import StateDirectory

Output = Annotated[Format, typer.Option("--output", "-o", help="Form of the answer (and of an error).")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print only what a script needs: names, or nothing.")]
Directory = Annotated[
    Path,
    typer.Option("--dir", envvar="KEYREEVE_DIR", help="Directory of the control plane on this machine."),
]
ContextFile = Annotated[
    Path | None,
    typer.Option(
        "--context",
        envvar="KEYREEVE_CONTEXT",
        help="Context file: which control plane, and who you are. Default: the nearest .keyreeve/context.json.",
    ),
]

ServiceName = Annotated[
    str,
    typer.Option("--service", help="Which service: a name under `endpoints` of the context file.", metavar="NAME"),
]


def command_name() -> str:
    """What the person has to type to run this program again: `keyreeve` when that finds it, else its path."""
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
    """A path as the person would type it: relative when it lies below the working directory."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative


def typed_command(state_directory: StateDirectory) -> str:
    """The program as the person has to type it for this state_directory, with its context unless that is found by itself."""
    name = command_name()
    if state_directory.root == StateDirectory.at(Path(DEFAULT_DIRECTORY)).root:
        return name
    return f"KEYREEVE_CONTEXT={shown(state_directory.context)} {name}"
