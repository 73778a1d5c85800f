"""Help on a terminal of 80 columns: nothing is cut off, and no value is broken in two."""

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

from typer.main import get_command

from keyreeve.cli.program import app

RENDER = """
import contextlib, io, sys
from keyreeve.cli.program import run_command
for line in sys.stdin:
    with contextlib.redirect_stdout(io.StringIO()) as out:
        run_command([*line.split(), "--help"])
    print("\\x1e" + line.strip() + "\\n" + out.getvalue())
"""


def commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    yield path, command
    for name, child in getattr(command, "commands", {}).items():
        yield from commands(child, (*path, name))


def expected(command: Any) -> Iterator[str]:
    """What a command's help must hold in one piece: names of options, and values to choose from."""
    for parameter in command.params:
        if parameter.param_type_name == "option" and not parameter.hidden:
            yield from parameter.opts
            if isinstance(parameter.type_descriptor, tuple):
                yield "|".join(one.value for one in parameter.type_descriptor)


def test_help_is_not_cut_and_breaks_no_value_on_80_columns() -> None:
    every = dict(commands(get_command(app)))
    done = subprocess.run(
        [sys.executable, "-c", RENDER],
        input="".join(f"{' '.join(path)}\n" for path in every),
        capture_output=True,
        text=True,
        check=True,
        env={"COLUMNS": "80", "TERM": "dumb", "PATH": "/usr/bin", "LANG": "C.UTF-8"},
    )
    shown = dict(text.split("\n", 1) for text in done.stdout.split("\x1e")[1:])
    assert len(shown) == len(every)
    cut = {path: text for path, text in shown.items() if "…" in text or "...\n" in text.partition("Commands:")[2]}
    assert cut == {}
    missing = {path: word for path in every for word in expected(every[path]) if word not in shown[" ".join(path)]}
    assert missing == {}


def test_lists_of_commands_hold_whole_sentences() -> None:
    done = subprocess.run([sys.executable, "-m", "keyreeve.cli", "--help"], capture_output=True, text=True, check=True)
    text = " ".join(done.stdout.split())
    assert "tour Show an array of servers at work: join, promotion, detach, with three local agents." in text
