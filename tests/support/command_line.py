"""Running `keyreeve` in this process: its exit code, what it printed, and what it said on standard error."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from keyreeve.cli.program import run_command


@dataclass(frozen=True)
class Ran:
    """Result of a command."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """Its output, parsed as JSON."""
        return json.loads(self.out)

    @property
    def error(self) -> Any:
        """The error on standard error, parsed as JSON."""
        return json.loads(self.err)["error"]


Run = Callable[..., Ran]


def runner(capsys: pytest.CaptureFixture[str]) -> Run:
    """Make a function that runs a command line; arguments are converted to text."""

    def run(*arguments: object) -> Ran:
        capsys.readouterr()
        code = run_command([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Ran(code, captured.out, captured.err)

    return run
