"""A channel of SSH as asyncssh hands it to what runs on it, without a connection."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from keyreeve_gateway.execute.service import LegacyCommands
from keyreeve_gateway.mmp.program import MMP
from keyreeve_gateway.ssh.commands import SshCommands
from keyreeve_gateway.ssh.connection import SessionChannel


@dataclass
class Channel:
    """A client that types lines, or does something else instead of one."""

    command: str | None
    env: dict[str, str]
    term_type: str | None
    typed: "deque[str | Exception]" = field(default_factory=deque)
    output: list[str] = field(default_factory=list)
    """All that was written."""
    code: int | None = None

    @property
    def stdout(self) -> Any:
        return SimpleNamespace(write=self.write)

    @property
    def stderr(self) -> Any:
        return SimpleNamespace(write=self.warn)

    @property
    def stdin(self) -> Any:
        return SimpleNamespace(readline=self.take, read=self.take)

    @property
    def channel(self) -> Any:
        return SimpleNamespace(set_echo=lambda _: None)

    def write(self, text: str) -> None:
        self.output.append(text)

    def warn(self, text: str) -> None:
        self.output.append(text)

    async def take(self, _size: int = -1) -> str:
        following = self.typed.popleft() if self.typed else ""
        if isinstance(following, Exception):
            raise following
        return following

    def exit(self, code: int) -> None:
        self.code = code

    async def serve(self, commands: LegacyCommands, session: Any) -> None:
        """Run the command, or the shell."""
        door: Any = SimpleNamespace(commands=SshCommands(commands, MMP, "cms"))
        process: Any = self
        await SessionChannel(door, session)._run(process)


def quoted(program: str, argv: Sequence[str]) -> str:
    """A command line as the appliance takes it."""
    return " ".join([program, *('"' + word.replace("\\", "\\\\").replace('"', '\\"') + '"' for word in argv)])
