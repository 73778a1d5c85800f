"""`keyreeve bench sign`: the settings it passes to the load tool, and its error without the load tool."""

import importlib.util
import json
import subprocess
from types import SimpleNamespace

import pytest

from support.command_line import runner


def test_the_load_tool_gets_the_settings_and_its_exit_code_is_the_commands(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    commands: list[list[str]] = []

    def run(command: list[str], check: bool) -> SimpleNamespace:
        commands.append(command)
        return SimpleNamespace(returncode=1)

    monkeypatch.setattr(subprocess, "run", run)
    ran = runner(capsys)("bench", "sign", "--rate", 500, "--require", "p99<=15ms", "--compare", "cfssl", "--json")
    assert ran.code == 1
    settings = json.loads(commands[0][-1])
    assert commands[0][1:4] == ["-P", "-m", "keyreeve_bench"]
    assert (settings["rate"], settings["in_flight"], settings["json"]) == (500.0, 1024, True)
    assert (settings["require"], settings["compare"]) == (["p99<=15ms"], ["cfssl"])


def test_a_missing_load_tool_is_named_with_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "hdrh" else object())
    ran = runner(capsys)("bench", "sign")
    assert ran.code == 1
    assert "hdrh" in ran.err
    assert "pip install 'keyreeve[bench,server,cli]'" in ran.err
    assert "PACKAGE_MISSING" in ran.err
