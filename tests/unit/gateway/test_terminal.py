"""The console of an installed command."""

import sys

import pytest

from keyreeve.errors import FileUnusable
from keyreeve_gateway.ways.terminal import TerminalConsole


async def test_without_standard_input_there_is_no_answer_and_no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    console = TerminalConsole()
    assert not console.interactive
    assert await console.ask("Go on? ") is None
    assert await console.ask_secret("Password: ") is None
    with pytest.raises(FileUnusable, match="standard input: it is closed"):
        await console.read_file("-", 10)
