"""`keyreeve recover trust-tables`: what is asked and shown, and with which exit code."""

from pathlib import Path
from typing import Any

import pytest

from keyreeve.cli.local import recovery_commands
from support.command_line import Run

ALTERED = {
    "sealed": False,
    "alterations": [
        {"table": "profiles", "key": "server", "problem": "changed"},
        {"table": "revocations", "key": "", "problem": "rows"},
    ],
}
Asked = list[tuple[str, tuple[str, ...], str]]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    """What the service's program is asked; it answers with two differences."""
    calls: Asked = []

    def ask(subcommand: str, _directory: Path, *arguments: str, service: str = "ca") -> dict[str, Any]:
        calls.append((subcommand, arguments, service))
        return ALTERED

    monkeypatch.setattr(recovery_commands, "_ask", ask)
    return calls


def test_altered_trust_tables_are_shown_and_fail_the_command(run: Run, asked: Asked) -> None:
    ran = run("recover", "trust-tables", "--service", "membership")
    assert ran.out == "profiles/server: changed\nrevocations: rows\n"
    assert ran.code != 0
    assert asked == [("trust-tables", (), "membership")]


def test_accepted_trust_tables_are_named_and_the_command_succeeds(run: Run, asked: Asked) -> None:
    ran = run("recover", "trust-tables", "--seal")
    assert "revocations: rows\naccepted: " in ran.out
    assert ran.code == 0
    assert asked == [("trust-tables", ("--seal",), "ca")]
