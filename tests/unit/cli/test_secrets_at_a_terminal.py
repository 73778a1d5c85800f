"""Secrets of the vault are neither typed into command lines nor shown at a terminal unless that is asked for."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from typer.main import get_command

from keyreeve.cli.program import app


def at_a_terminal(directory: Path, *words: str) -> tuple[int, str]:
    """Run a command whose output is a terminal; its exit code and what it showed."""
    ours, theirs = os.openpty()
    try:
        environment = {**os.environ, "KEYREEVE_DIR": str(directory), "COLUMNS": "200"}
        command = [sys.executable, "-m", "keyreeve.cli", *words]
        done = subprocess.run(
            command, env=environment, stdin=theirs, stdout=theirs, stderr=theirs, timeout=60, check=False
        )
        os.close(theirs)
        shown = b""
        with suppress(OSError):  # Linux says that a terminal without another end cannot be read
            while part := os.read(ours, 4_096):
                shown += part
        return done.returncode, shown.decode()
    finally:
        os.close(ours)


def test_a_secret_is_not_written_to_a_terminal(tmp_path: Path) -> None:
    where = ("--array", "web", "--owner", "o=Indigo/cn=Ada")
    code, shown = at_a_terminal(tmp_path, "vault", "get", *where)
    assert code == 2
    assert "redirect it, or add --reveal" in shown


def options(command: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """All options of a command and of those below it."""
    for name, below in getattr(command, "commands", {}).items():
        yield from options(below, f"{path} {name}")
    for parameter in command.params:
        yield path, parameter


def test_no_command_of_the_vault_takes_a_secret_as_an_argument() -> None:
    vault = get_command(app).commands["vault"]
    words = ("secret", "passphrase", "password")
    named = [(path, one) for path, one in options(vault) if any(word in name for word in words for name in one.opts)]
    kinds = {option: one.type_descriptor.annotation for _, one in named for option in one.opts}
    assert kinds == {"--secret-file": Path, "--new-secret": bool, "--password-cache-usage": str}
