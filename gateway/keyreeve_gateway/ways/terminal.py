"""The console of an installed command: standard input, output and error, and the terminal."""

import sys
from typing import TYPE_CHECKING

from keyreeve.errors import FileUnusable
from keyreeve_gateway.text import one_line

if TYPE_CHECKING:
    from keyreeve.plaintext import Plaintext

_MOST_SECRET = 4_097


class TerminalConsole:
    """Standard input, output and error of this process."""

    @property
    def interactive(self) -> bool:
        """Whether standard input is a terminal."""
        return sys.stdin is not None and sys.stdin.isatty()

    def say(self, line: str = "") -> None:
        """Write a line of output."""
        _write(sys.stdout, line)

    def warn(self, line: str) -> None:
        """Write a line on standard error."""
        _write(sys.stderr, line)

    async def ask(self, prompt: str) -> str | None:
        """Ask at the terminal; None when standard input is none."""
        if not self.interactive:
            return None
        sys.stdout.flush()
        sys.stderr.write(one_line(prompt))
        sys.stderr.flush()
        answer = sys.stdin.readline(1_025)
        return answer.removesuffix("\n").removesuffix("\r") if answer else None

    async def ask_secret(self, prompt: str) -> "Plaintext | None":
        """Ask at the terminal without an echo, or take the next line of standard input."""
        from keyreeve.plaintext import Plaintext

        if self.interactive:
            from getpass import getpass

            try:
                return Plaintext(getpass(one_line(prompt)).encode("utf-8", "surrogateescape"))
            except EOFError:
                return None
        line = sys.stdin.buffer.readline(_MOST_SECRET) if sys.stdin is not None else b""
        return Plaintext(line.removesuffix(b"\n").removesuffix(b"\r")) if line else None

    async def read_file(self, name: str, limit: int) -> bytes:
        """Read a file, `-` for standard input. Raises `FileUnusable`."""
        if name == "-" and sys.stdin is None:
            raise FileUnusable("cannot read standard input: it is closed")
        if name == "-":
            return sys.stdin.buffer.read(limit + 1)
        try:
            with open(name, "rb") as file:  # noqa: ASYNC230, PTH123 - the process does nothing else
                return file.read(limit + 1)
        except (OSError, ValueError) as problem:
            raise FileUnusable(f"cannot read {name}: {getattr(problem, 'strerror', None) or problem}") from None


def _write(stream: object, line: str) -> None:
    write = getattr(stream, "write", None)
    if write is not None:
        write(one_line(line).encode("utf-8", "backslashreplace").decode() + "\n")
