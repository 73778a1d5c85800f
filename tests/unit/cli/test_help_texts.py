"""Help on a terminal of 80 columns: nothing is cut off, and no value is broken in two."""

from collections.abc import Iterator
from typing import Any

from typer.main import get_command

from keyreeve.cli.program import app


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


def shown(command: Any, path: tuple[str, ...]) -> str:
    """Its help on 80 columns."""
    context = command.context_class(command, info_name=" ".join(("keyreeve", *path)), terminal_width=80)
    return str(command.get_help(context))


def test_help_is_not_cut_and_breaks_no_value_on_80_columns() -> None:
    texts = {path: (command, shown(command, path)) for path, command in commands(get_command(app))}
    assert len(texts) > 100
    cut = [path for path, (_, text) in texts.items() if "…" in text or "...\n" in text.partition("Commands:")[2]]
    assert cut == []
    missing = {path: word for path, (command, text) in texts.items() for word in expected(command) if word not in text}
    assert missing == {}


def test_lists_of_commands_hold_whole_sentences() -> None:
    text = " ".join(shown(get_command(app), ()).split())
    assert "tour Show an array of servers at work: join, promotion, passwords, detach, with three local agents." in text
