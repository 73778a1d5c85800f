"""Command lines over SSH: one, or one after the other at the appliance's prompt."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import asyncssh
from asyncssh.misc import SoftEOFReceived

from keyreeve_gateway.execute.service import LegacyCommands
from keyreeve_gateway.execute.variables import ARRAY, SERVER
from keyreeve_gateway.grammar.batches import split_words
from keyreeve_gateway.grammar.model import Program
from keyreeve_gateway.grammar.parsing import UsageProblem
from keyreeve_gateway.sessions.ports import Session
from keyreeve_gateway.ssh.console import SshConsole

if TYPE_CHECKING:
    from asyncssh import SSHServerProcess

INTERRUPTED = 130
LEAVE = frozenset({"exit", "logout", "quit"})
_ACCEPTED = (SERVER, ARRAY)
"""Variables that a client may send, as `SetEnv` and `SendEnv` do."""


@dataclass(frozen=True, slots=True)
class SshCommands:
    """Runs what a client asks for in a session."""

    commands: LegacyCommands
    default: Program
    """The program whose command lines need not name it."""
    host_name: str
    """Before the prompt's `>`."""

    async def run(self, process: "SSHServerProcess[str]", session: Session) -> int:
        """Run the command of a channel, or a shell; return the exit code."""
        environment = environment_of(process.env)
        console = SshConsole(process)
        if process.command is not None:
            return await self._interruptible(process.command, console, session, environment)
        code = 0
        while True:
            prompt = f"{self.host_name}> " if console.interactive else ""
            try:
                line = await console.read_line(prompt)
            except (asyncssh.BreakReceived, asyncssh.SignalReceived):
                console.say()
                continue
            except SoftEOFReceived:
                line = None
            if line is None or line.strip() in LEAVE:
                return code
            if line.strip():
                code = await self._interruptible(line, console, session, environment)

    async def _interruptible(
        self, line: str, console: SshConsole, session: Session, environment: Mapping[str, str]
    ) -> int:
        """Run a line; what interrupts a question ends the command and not the shell."""
        try:
            return await self._line(line, console, session, environment)
        except (asyncssh.BreakReceived, asyncssh.SignalReceived, SoftEOFReceived):
            console.say()
            return INTERRUPTED

    async def _line(self, line: str, console: SshConsole, session: Session, environment: Mapping[str, str]) -> int:
        try:
            words = split_words(line)
        except UsageProblem as problem:
            console.warn(f"{self.default.failure_prefix}{problem}")
            return self.commands.settings.usage_code
        names = {program.name for program in self.commands.programs}
        named = words[0] if words and words[0] in names else ""
        command = self.commands.command_line(named or self.default.name, words[1:] if named else words, environment)
        return await self.commands.carry_out(command, session, console)


def environment_of(sent: Mapping[str, str]) -> dict[str, str]:
    """The variables that a client may send; others are passed over, as `AcceptEnv` does."""
    return {name: sent[name] for name in _ACCEPTED if sent.get(name)}
