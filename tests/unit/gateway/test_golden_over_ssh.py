"""The legacy commands do over SSH what their transcripts say."""

import asyncio
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from fakes.legacy_services import NOW, LegacyServices
from keyreeve_gateway.execute.service import LegacyCommands
from keyreeve_gateway.programs import PROGRAMS
from keyreeve_gateway.settings import LegacySettings
from support.gateway import OpenedSession
from support.ssh_channel import Channel, quoted
from support.transcripts import (
    GOLDEN,
    PlayedCommand,
    Recorder,
    ScriptedConsole,
    Stage,
    compare,
    play,
    read,
    transcripts,
)

COMMANDS = LegacyCommands(PROGRAMS, LegacySettings(), lambda: NOW)


def playable() -> list[Path]:
    """The transcripts whose commands name a server, as all do over SSH, or call nothing."""
    return [path for path in transcripts() if _names_a_server(path) and "No such file" not in path.read_text()]


def _names_a_server(path: Path) -> bool:
    given, text = [line for step in read(path) for line in step.given], path.read_text()
    named = any(line.startswith("server ") for line in given) and "this host is called" not in text
    return named or "\n> " not in text


@dataclass
class RecordedChannel(Channel):
    """A channel whose output is recorded as that of a console of a transcript."""

    console: ScriptedConsole = field(default_factory=lambda: ScriptedConsole(Recorder(), [], {}))
    prompt: str = ""
    file: str = ""
    """Standard input, as far as it has not been read."""

    def write(self, text: str) -> None:
        if text.endswith("\n"):
            self.console.say(text[:-1])
        else:
            self.prompt = text

    def warn(self, text: str) -> None:
        self.console.warn(text[:-1])

    async def take(self, _size: int = -1) -> str:
        if self.file:
            given, self.file = self.file, ""
            return given
        if not self.prompt:
            return ""
        answer = await self.console.ask(self.prompt)
        return "" if answer is None else f"{answer}\n"


async def run_over_ssh(command: PlayedCommand, stage: Stage) -> int:
    """Run a command of a transcript on a channel."""
    environment = {"KEYREEVE_SERVER": command.server, "KEYREEVE_ARRAY": command.array}
    files = [name for name in command.argv if name in command.console.files]
    channel = RecordedChannel(
        quoted(command.program.name, ["-" if name in files else name for name in command.argv]),
        {name: value for name, value in environment.items() if value},
        "xterm" if command.console.interactive else None,
        console=command.console,
        file=command.console.files[files[0]].decode() if files else "",
    )
    over: asyncio.Future[Exception] = asyncio.get_running_loop().create_future()
    await channel.serve(COMMANDS, OpenedSession("spiffe://t/o", stage.services, [], over))
    assert channel.code is not None
    return channel.code


@pytest.mark.parametrize("path", playable(), ids=lambda path: str(path.relative_to(GOLDEN).with_suffix("")))
async def test_a_command_does_over_ssh_what_its_transcript_says(path: Path) -> None:
    recorder = Recorder()
    services = LegacyServices(recorder)
    stage = Stage(services.clients(), services.give, recorder, lambda: NOW, run=run_over_ssh)
    compare(path, await play(path, stage))
