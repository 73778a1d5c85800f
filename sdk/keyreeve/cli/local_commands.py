"""`explain` and `version`: what the program knows by itself."""

from typing import Annotated

import typer

from keyreeve.cli.options import Output, Quiet
from keyreeve.cli.printing import Format, Printer
from keyreeve.errors import register


def add_to(app: typer.Typer) -> None:
    """Put the commands of this module into the command hierarchy."""
    app.command("explain")(explain)
    app.command("version")(version)


def explain(
    reason: Annotated[
        str | None, typer.Argument(help="A reason, such as NAME_REFUSED; all of them without it.")
    ] = None,
    output: Output = Format.TABLE,
    quiet: Quiet = False,
) -> None:
    """Explain an error's reason: what causes it, what to do, and who can do it."""
    printer = Printer(output, quiet=quiet)
    known = register()
    explained = [
        {"reason": name, "code": error.code, "cause": error.cause(), "fix": error.fix, "who": error.who}
        for name, error in known.items()
        if reason is None or name == reason.upper()
    ]
    if reason is None:
        printer.rows(("reason", "code", "cause"), explained, essence="reason")
        return
    if not explained:
        from difflib import get_close_matches

        near = get_close_matches(reason.upper(), known, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]}?" if near else "`keyreeve explain` lists all reasons"
        raise typer.BadParameter(f"no reason is called {reason.upper()}; {hint}", param_hint="REASON")
    printer.thing(explained[0], essence="fix")


def versions() -> dict[str, str]:
    """The releases of this program and of what it stands on."""
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
    """Print the releases of the program and of what it stands on."""
    told = versions()
    Printer(output, quiet=quiet).thing(told, essence="keyreeve")
