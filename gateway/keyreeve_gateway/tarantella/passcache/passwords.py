"""The password of an entry: from its option, or asked for."""

from typing import TYPE_CHECKING

from keyreeve_gateway.invocation import CommandFailed, Invocation

if TYPE_CHECKING:
    from keyreeve.plaintext import Plaintext


async def password_of(call: Invocation) -> "Plaintext":
    """Return the password. Raises `CommandFailed` when there is none."""
    from keyreeve.plaintext import Plaintext

    if call.parsed.given("--respass"):
        return Plaintext.of(call.parsed.text("--respass"))
    typed = await call.console.ask_secret(call.settings.password_prompt)
    if not typed:
        raise CommandFailed("no password was given")
    return typed
