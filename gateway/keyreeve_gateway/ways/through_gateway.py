"""Command lines that the gateway carries out, with the operator's own certificate as the proof."""

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from keyreeve.errors import ContextInvalid, KeyreeveError
from keyreeve_gateway.dispatch import describe
from keyreeve_gateway.execute.variables import ARRAY, HOST, SERVER
from keyreeve_gateway.grammar.model import Program
from keyreeve_gateway.ports import Console
from keyreeve_gateway.settings import LegacySettings
from keyreeve_gateway.ways.own_context import is_operators, own_client

if TYPE_CHECKING:
    from keyreeve.context import Context

VARIABLE = "KEYREEVE_GATEWAY"
"""`host:port` of the gateway, over that of the context; empty: commands call the services themselves."""


def context_with_gateway(context: "Context", named: str | None) -> "Context | None":
    """The context with the gateway that is to be used; None when the command calls the services itself.

    That is so when the variable is empty, when there is no gateway, and for a member's certificate: a session is a person's.
    Raises `ContextInvalid`.
    """
    if named == "" or (named is None and "gateway" not in context.endpoints):
        return None
    if not is_operators(context):
        if named:
            raise ContextInvalid(f"{VARIABLE} is for the certificates of operators, and this is none")
        return None
    return replace(context, endpoints={**context.endpoints, "gateway": (named,)}) if named else context


async def run_there(
    program: Program,
    argv: Sequence[str],
    console: Console,
    context: "Context",
    settings: LegacySettings,
) -> int:
    """Have a command line carried out by the gateway; return its exit code."""
    from keyreeve.legacy_values import LegacyCommandLine

    environment = {SERVER: settings.server, ARRAY: settings.array, HOST: os.uname().nodename}
    command = LegacyCommandLine(program.name, argv, {name: value for name, value in environment.items() if value})
    try:
        async with own_client(context, console) as client:
            return await client.gateway.commands.execute(command, console)
    except KeyreeveError as error:
        console.warn((program.failure_prefix or f"{program.name}: ") + describe(error))
        return settings.failed_code
