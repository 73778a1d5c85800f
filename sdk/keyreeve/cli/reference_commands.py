"""`explain` and `version`: commands that make no call."""

from typing import Annotated

import typer

from keyreeve.cli.options import Output, Quiet
from keyreeve.cli.printing import Format, Printer
from keyreeve.errors import register


def add_to(app: typer.Typer) -> None:
    """Add the commands of this module to the program."""
    app.command("explain")(explain)
    app.command("version")(version)


def explain(
    reason: Annotated[str | None, typer.Argument(help="Reason, such as NAME_REFUSED. Default: all reasons.")] = None,
    output: Output = Format.TABLE,
    quiet: Quiet = False,
) -> None:
    """Explain the reason of an error: its cause, its fix, and who can fix it."""
    printer = Printer(output, quiet=quiet)
    known = register()
    explained = [
        {"reason": name, "code": error.code, "cause": error.cause(), "fix": error.fix, "who": error.who}
        for name, error in known.items()
        if reason is None or name == reason.upper()
    ]
    if reason is None:
        printer.rows(("reason", "code", "cause"), explained, brief="reason")
        return
    if not explained:
        from difflib import get_close_matches

        near = get_close_matches(reason.upper(), known, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]}?" if near else "`keyreeve explain` lists all reasons"
        raise typer.BadParameter(f"no reason is called {reason.upper()}; {hint}", param_hint="REASON")
    printer.item(explained[0], brief="fix")


def versions() -> dict[str, str]:
    """Return the versions of this program and its main dependencies."""
    import platform
    import sqlite3
    from importlib.metadata import version as release

    return {
        "keyreeve": release("keyreeve"),
        "python": platform.python_version(),
        "grpcio": release("grpcio"),
        "cryptography": release("cryptography"),
        "sqlite": sqlite3.sqlite_version,
    }


def version(output: Output = Format.TABLE, quiet: Quiet = False) -> None:
    """Print the versions of the program and its main dependencies."""
    Printer(output, quiet=quiet).item(versions(), brief="keyreeve")
