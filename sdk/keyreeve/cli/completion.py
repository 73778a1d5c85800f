"""Completion of names in the shell: profiles and authorities of the control plane, and context files nearby.

What cannot be asked is not completed; a shell shows no errors. `keyreeve --install-completion` switches it on.
"""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from keyreeve import Client

SECONDS = 2.0
"""A person waits for the answer, with a finger on the Tab key."""
_PATTERNS = (".keyreeve/context.json", "*/context.json", "*/.keyreeve/context.json")


def profile_names(ctx: typer.Context, incomplete: str) -> list[str]:
    """Names of profiles."""
    return _names(ctx, incomplete, lambda client: (one.name for one in client.profiles.list()))


def authority_names(ctx: typer.Context, incomplete: str) -> list[str]:
    """Names of authorities."""
    return _names(ctx, incomplete, lambda client: (one.name for one in client.authorities.list()))


def context_files(incomplete: str) -> list[str]:
    """Context files nearby, and paths that begin so."""
    near = {str(path) for pattern in _PATTERNS for path in Path().glob(pattern)}
    typed = Path(incomplete)
    directory = typed if incomplete.endswith("/") else typed.parent
    try:
        below = [f"{path}/" if path.is_dir() else str(path) for path in directory.iterdir()] if incomplete else []
    except OSError:
        below = []
    return sorted(path for path in {*near, *below} if path.startswith(incomplete))


def _names(ctx: typer.Context, incomplete: str, ask: "Callable[[Client], Iterable[str]]") -> list[str]:
    from keyreeve import Client, Context
    from keyreeve.errors import KeyreeveError
    from keyreeve.retry import NO_RETRY

    try:
        with Client(Context.load(ctx.params.get("context")), timeout=SECONDS, retry=NO_RETRY) as client:
            names = [name.rpartition("/")[2] for name in ask(client)]
    except KeyreeveError:
        return []
    return sorted(name for name in names if name.startswith(incomplete))
