"""The console of a command over SSH."""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, cast

import asyncssh

from keyreeve.errors import FileUnusable
from keyreeve.plaintext import Plaintext
from keyreeve_gateway.text import one_line

if TYPE_CHECKING:
    from asyncssh import SSHServerProcess
    from asyncssh.editor import SSHLineEditorChannel

MOST_LINE = 4_096


class SshConsole:
    """Standard input, output and error of a channel."""

    def __init__(self, process: "SSHServerProcess[str]") -> None:
        """Take the channel."""
        self._process = process

    @property
    def interactive(self) -> bool:
        """Whether the client has asked for a terminal."""
        return self._process.term_type is not None

    def say(self, line: str = "") -> None:
        """Write a line of output."""
        self._process.stdout.write(_printable(line) + "\n")

    def warn(self, line: str) -> None:
        """Write a line on standard error."""
        self._process.stderr.write(_printable(line) + "\n")

    async def ask(self, prompt: str) -> str | None:
        """Ask at the terminal; None without one."""
        return await self.read_line(prompt) if self.interactive else None

    async def ask_secret(self, prompt: str) -> Plaintext | None:
        """Ask at the terminal without an echo, or take the next line of standard input."""
        if not self.interactive:
            line = await _whatever_the_size(self._process.stdin.readline)
            return Plaintext.of(line[:MOST_LINE].rstrip("\r\n")) if line else None
        channel = cast("SSHLineEditorChannel", self._process.channel)  # a terminal has one
        channel.set_echo(False)
        try:
            typed = await self.read_line(prompt)
        finally:
            channel.set_echo(True)
        return None if typed is None else Plaintext.of(typed)

    async def read_line(self, prompt: str) -> str | None:
        """Read a line at the terminal; None at the end of the input."""
        self._process.stdout.write(one_line(prompt))
        line = await _whatever_the_size(self._process.stdin.readline)
        return line[:MOST_LINE].rstrip("\r\n") if line else None

    async def read_file(self, name: str, limit: int) -> bytes:
        """Read standard input. Raises `FileUnusable` for every other name."""
        if name != "-":
            raise FileUnusable(f"cannot read {name}: over SSH a file is read from standard input, as -")
        contents = bytearray()
        read = partial(self._process.stdin.read, 65_536)
        while len(contents) <= limit and (text := await _whatever_the_size(read)):
            contents += text.encode("utf-8", "surrogateescape")
        return bytes(contents[: limit + 1])


async def _whatever_the_size(read: Callable[[], Awaitable[str]]) -> str:
    """Read input; a change of the terminal's size, which a client may report without a terminal, is no input."""
    while True:
        try:
            return await read()
        except asyncssh.TerminalSizeChanged:
            continue


def _printable(line: str) -> str:
    return one_line(line).encode("utf-8", "backslashreplace").decode()
