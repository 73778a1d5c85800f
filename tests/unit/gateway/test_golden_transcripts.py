"""The legacy commands do what their transcripts say, on services in memory."""

import re
from pathlib import Path

import pytest

from fakes.legacy_services import NOW, LegacyServices
from support.transcripts import (
    GOLDEN,
    PROGRAMS,
    PlayedCommand,
    Recorder,
    ScriptedConsole,
    Stage,
    compare,
    play,
    read,
    rpcs_of,
    run_in_process,
    transcripts,
)

ALL_VERBS = {
    " ".join((program.name, *words)): verb for program in PROGRAMS.values() for words, verb in program.commands()
}


@pytest.mark.parametrize("path", transcripts(), ids=lambda path: str(path.relative_to(GOLDEN).with_suffix("")))
async def test_a_command_does_what_its_transcript_says(path: Path) -> None:
    recorder = Recorder()
    services = LegacyServices(recorder)
    compare(path, await play(path, Stage(services.clients(), services.give, recorder, lambda: NOW)), update=True)


def commands() -> list[tuple[str, list[str]]]:
    """Every command of the transcripts with the lines that follow it."""
    found: list[tuple[str, list[str]]] = []
    for path in transcripts():
        for line in path.read_text().splitlines():
            if line.startswith("$ "):
                found.append((line[2:], []))
            elif found:
                found[-1][1].append(line)
    return found


@pytest.mark.parametrize("words", ALL_VERBS)
def test_every_verb_has_a_transcript_and_calls_what_the_documents_say(words: str) -> None:
    played = [lines for command, lines in commands() if f"{command} ".startswith(f"{words} ")]
    assert played
    called = {rpc for lines in played for rpc in rpcs_of(lines)}
    assert called == set(ALL_VERBS[words].rpcs)


def test_a_refused_command_line_calls_nothing() -> None:
    refused = [lines for _, lines in commands() if "= 2" in lines]
    assert len(refused) > 10
    assert [lines for lines in refused if rpcs_of(lines)] == []


@pytest.mark.parametrize("words", ALL_VERBS)
async def test_every_verb_has_a_usage_text_and_nothing_is_called_for_it(words: str) -> None:
    name, *verb = words.split()
    for argv in (["help", *verb], [*verb, "--help"], [*verb, "anything", "--help"]):
        recorder = Recorder()
        stage = Stage(None, LegacyServices(recorder).give, recorder)
        console = ScriptedConsole(recorder, [], {})
        code = await run_in_process(PlayedCommand(PROGRAMS[name], argv, console, "", ""), stage)
        assert (code, recorder.lines[0].startswith(f"| Usage: {words}")) == (0, True)
        assert rpcs_of(recorder.lines) == set()


def passwords(text: str) -> set[str]:
    """What follows `--respass` in command lines and files of a transcript."""
    found = re.findall(r'--respass?[ =]?("(?:[^"\\\\]|\\\\.)*"|\S+)', text)
    return {one.strip('"') for one in found} - {"respass"}


def test_no_transcript_shows_a_password() -> None:
    checked = set()
    for path in transcripts():
        steps = read(path)
        written = "\n".join(
            [step.command for step in steps] + [data.decode() for one in steps for data in one.files.values()]
        )
        secrets = {answer for step in steps for answer in step.answers} | passwords(written)
        shown = [line for line in path.read_text().splitlines() if line[:2] in {"| ", "! ", "> "}]
        assert [line for line in shown for secret in secrets if len(secret) > 3 and secret in line] == []
        checked |= secrets
    assert "canary-1" in checked
