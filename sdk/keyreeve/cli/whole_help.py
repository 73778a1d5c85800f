"""Groups of commands whose help shows the whole first sentence of each command."""

from typing import Any

import typer
from typer.core import TyperGroup

_UNCUT = 1_000
"""Characters; the library's own limit leaves 45 on a terminal of 80 columns."""


class WholeHelpGroup(TyperGroup):
    """A group that does not cut what its commands do."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ANN401  # the library's own types
        """Write the commands and what each does."""
        names = self.list_commands(ctx)
        found = {name: command for name in names if (command := self.get_command(ctx, name)) and not command.hidden}
        if found:
            with formatter.section("Commands"):
                formatter.write_dl([(name, one.get_short_help_str(_UNCUT)) for name, one in found.items()])


def show_whole_help(app: typer.Typer) -> None:
    """Have a program and its groups show whole sentences."""
    app.info.cls = WholeHelpGroup
    for group in app.registered_groups:
        if group.typer_instance is not None:
            group.cls = WholeHelpGroup
            show_whole_help(group.typer_instance)
