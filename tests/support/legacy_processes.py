"""Legacy commands as processes, with a terminal or without."""

import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

_SCRIPTS = Path(sys.executable).parent
"""Where the package's commands are installed."""


@dataclass(frozen=True)
class LegacyShell:
    """Runs commands with a context, on a server."""

    context: Path
    server: str = ""
    in_process: bool = False
    """The commands call the services themselves, although the context names a gateway."""

    def on(self, server: str) -> "LegacyShell":
        """The same on another server."""
        return replace(self, server=server)

    def run(self, program: str, *arguments: str, given: str | None = None) -> "subprocess.CompletedProcess[str]":
        """Run a command without a terminal."""
        return subprocess.run(
            self._command(program, arguments),
            input=given,
            stdin=subprocess.DEVNULL if given is None else None,
            env=self._environment(),
            capture_output=True,
            text=True,
            check=False,
            timeout=100,
        )

    def out(self, program: str, *arguments: str, given: str | None = None) -> str:
        """Run a command that succeeds; return its output."""
        done = self.run(program, *arguments, given=given)
        assert done.returncode == 0, f"{arguments}: {done.stderr}"
        return done.stdout

    def modules(self, program: str, *arguments: str) -> set[str]:
        """The modules that a command which succeeds loads, or has looked for."""
        environment = self._environment() | {"PYTHONPROFILEIMPORTTIME": "1"}
        command = self._command(program, arguments)
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=100)
        lines = [line.split("|") for line in done.stderr.splitlines() if line.startswith("import time:")]
        return {line[2].strip() for line in lines}

    @contextmanager
    def begun(self, program: str, *arguments: str, given: str = "") -> "Iterator[subprocess.Popen[str]]":
        """Start a command, which ends with the context at the latest; its output is one stream."""
        process = subprocess.Popen(
            self._command(program, arguments),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=self._environment(),
            text=True,
        )
        with process:
            try:
                assert process.stdin is not None
                process.stdin.write(given)
                process.stdin.flush()
                process.stdin.close()
                process.stdin = None
                yield process
            finally:
                process.kill()

    def at_terminal(self, program: str, *arguments: str, prompt: str, answer: str) -> tuple[int, str]:
        """Run a command at a terminal, and answer its question; return its exit code and what was displayed."""
        ours, theirs = pty.openpty()
        command, environment = self._command(program, arguments), self._environment()
        with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment) as process:
            os.close(theirs)
            seen, answered = "", False
            try:
                while part := _read(ours):
                    seen += part.decode()
                    if not answered and prompt in seen:
                        answered = True
                        os.write(ours, f"{answer}\n".encode())
                code = process.wait(100)
            finally:
                process.kill()
        os.close(ours)
        assert answered, seen
        return code, seen

    def _command(self, program: str, arguments: tuple[str, ...]) -> list[str]:
        return [str(_SCRIPTS / program), *arguments]

    def _environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("KEYREEVE_")}
        without_gateway = {"KEYREEVE_GATEWAY": ""} if self.in_process else {}
        return kept | {"KEYREEVE_CONTEXT": str(self.context), "KEYREEVE_SERVER": self.server} | without_gateway


def _read(terminal: int) -> bytes:
    """Read what a program displays; empty once the program has closed its end."""
    try:
        return os.read(terminal, 4096)
    except OSError:
        return b""
