"""The file space of this server, and what its verbs have in common."""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from keyreeve.errors import KeyFileInUse
from keyreeve_gateway.invocation import CommandFailed, Invocation

if TYPE_CHECKING:
    from keyreeve.file_values import FileSpace, MadeFiles
    from keyreeve.plaintext import Plaintext

KEPT = "What is replaced is kept under another name, such as `web-replaced-1.key`."
SILENT = "No manual says what is printed."


async def space_of(call: Invocation) -> "FileSpace":
    """The file space of this server."""
    from keyreeve.file_values import FileSpace

    return FileSpace(await call.array(), call.local_server)


async def make_confirmed(
    call: Invocation, make: "Callable[[bool], Awaitable[MadeFiles]]", basename: str
) -> "MadeFiles":
    """Make files; if that breaks a service that uses the key, only after a capital `Y`.

    `make` is called with whether a key in use is replaced.
    """
    try:
        made = await make(False)
    except KeyFileInUse as used:
        call.console.warn(f"WARNING!!! {used.message}")
        answer = await call.console.ask(call.settings.replace_prompt.replace("{file}", f"{basename}.key"))
        if answer != "Y":
            raise CommandFailed("the key is in use, and was not replaced") from None
        made = await make(True)
    for kept in made.kept_files:
        call.console.warn(f"WARNING: a replaced file is kept as {kept.file}")
    for warning in made.warnings:
        call.console.warn(f"WARNING: {warning}")
    return made


async def passphrase_of(call: Invocation, prompt: str) -> "Plaintext":
    """Ask for a passphrase. Raises `CommandFailed`."""
    typed = await call.console.ask_secret(prompt)
    if typed is None:
        raise CommandFailed("no passphrase was given")
    return typed
