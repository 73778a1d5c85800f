"""Carrying out a command line in an operator's session, and recording it."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial

from keyreeve.errors import ContextInvalid, FieldInvalid, KeyreeveError
from keyreeve_gateway.dispatch import Outcome, Surroundings, carry_out
from keyreeve_gateway.execute.variables import ARRAY, ENVIRONMENT, HOST, SERVER
from keyreeve_gateway.grammar.model import Program
from keyreeve_gateway.grammar.parsing import HelpRequested, UsageProblem, parse_command
from keyreeve_gateway.ports import Console
from keyreeve_gateway.sessions.ports import Session
from keyreeve_gateway.settings import LegacySettings

RECORD_SECONDS = 5.0
"""How long the record of a verb that was cut off is tried."""


@dataclass(frozen=True, slots=True)
class CommandLine:
    """A command line, and the variables of the client that gave it."""

    program: Program
    argv: Sequence[str]
    environment: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class LegacyCommands:
    """Carries out command lines."""

    programs: Sequence[Program]
    settings: LegacySettings
    now: Callable[[], datetime]

    def command_line(self, program: str, argv: Sequence[str], environment: Mapping[str, str]) -> CommandLine:
        """Check what a client sends. Raises `FieldInvalid`."""
        found = next((one for one in self.programs if one.name == program), None)
        if found is None:
            raise FieldInvalid(f"program: one of {', '.join(one.name for one in self.programs)} is required")
        if unknown := set(environment) - set(ENVIRONMENT):
            raise FieldInvalid(f"environment: {min(unknown)!a} is none of {', '.join(ENVIRONMENT)}")
        if any(len(value) > 253 or not value.isprintable() for value in environment.values()):
            raise FieldInvalid("environment: a value is the name of a server or of an array")
        return CommandLine(found, argv, environment)

    async def carry_out(self, command: CommandLine, session: Session, console: Console) -> int:
        """Carry out a command line in a session; return its exit code."""
        environment = command.environment
        settings = replace(
            self.settings,
            server=environment.get(SERVER) or self.settings.server,
            array=environment.get(ARRAY) or self.settings.array,
        )
        surroundings = Surroundings(
            lambda: nullcontext(session.services), settings, partial(_server, settings, environment), self.now
        )
        try:
            outcome = await carry_out(command.program, command.argv, console, surroundings)
        except asyncio.CancelledError:
            await self._record_cut_off(command, console, session)
            raise
        await self._record(command.program, outcome, console, session)
        return outcome.code

    async def _record_cut_off(self, command: CommandLine, console: Console, session: Session) -> None:
        """Record a verb whose client has gone, or whose session has ended: some of its calls may have been made."""
        with suppress(UsageProblem, HelpRequested, TimeoutError):
            words = parse_command(command.program, command.argv).words
            async with asyncio.timeout(RECORD_SECONDS):
                await self._record(command.program, Outcome(0, words, "CANCELLED"), console, session)

    async def _record(self, program: Program, outcome: Outcome, console: Console, session: Session) -> None:
        """Record what has been carried out. Without it the RPCs' own records still name the operator and the gateway."""
        if not outcome.words:
            return
        try:
            await session.append_record(f"{program.name} {' '.join(outcome.words)}", outcome.status, outcome.reason)
        except KeyreeveError as failure:
            console.warn(f"note: the audit log has the calls of this command but not the command: {failure.message}")


def _server(settings: LegacySettings, environment: Mapping[str, str]) -> str:
    """Peer DNS name of "this server". Raises `ContextInvalid`."""
    found = settings.server or environment.get(HOST, "")
    if not found:
        raise ContextInvalid(f"name the server that the command is for: {SERVER}, or `server` in legacy.toml")
    return found
