"""No argument crashes a legacy command, injects anything into its output, or changes anything when it is refused."""

import asyncio
import copy
from contextlib import nullcontext
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes.legacy_services import NOW, LegacyServices
from keyreeve_gateway.dispatch import Surroundings, run_command
from keyreeve_gateway.grammar.batches import logical_lines, split_words
from keyreeve_gateway.grammar.model import Program
from keyreeve_gateway.grammar.parsing import UsageProblem
from keyreeve_gateway.settings import LegacySettings
from support.hostile_input import HOSTILE, command_lines
from support.transcripts import PROGRAMS, Recorder, ScriptedConsole, several_calls

SERVER = "newyork.example.com"


def run(program: Program, argv: list[str], file: bytes = b"") -> tuple[int, list[str], bool]:
    """Exit code, lines of output, and whether anything has changed."""
    recorder = Recorder()
    services = LegacyServices(recorder)

    async def play() -> int:
        await services.give(f"array sales: {SERVER} boston.example.com")
        console = ScriptedConsole(recorder, ["yes", "Y"], {"-": file, "*": file})
        here = Surroundings(
            partial(nullcontext, services.clients()), LegacySettings(), partial(str, SERVER), lambda: NOW
        )
        nonlocal before
        before = copy.deepcopy(services.state())
        return await run_command(program, argv, console, here)

    before: object = None
    code = asyncio.run(play())
    return code, recorder.lines, services.state() != before


def shown(lines: list[str]) -> list[str]:
    """What the caller sees: everything but the calls."""
    return [line for line in lines if not line.startswith("> ")]


@pytest.mark.parametrize("program", PROGRAMS.values(), ids=PROGRAMS)
def test_no_command_line_crashes_or_injects_anything(program: Program) -> None:
    @given(command_lines(program), st.binary(max_size=60))
    def check(argv: list[str], file: bytes) -> None:
        code, lines, changed = run(program, argv, file)
        assert code in {0, 1, 2}
        assert all(line.isprintable() for line in shown(lines))
        assert code == 0 or not changed or (code == 1 and several_calls(argv))

    check()


@pytest.mark.parametrize("hostile", HOSTILE)
def test_a_hostile_value_of_every_option_is_refused_or_escaped(hostile: str) -> None:
    argv = ["passcache", "new", "--person", hostile, "--resource", hostile, "--resuser", hostile, "--respass", "secret"]
    code, lines, changed = run(PROGRAMS["tarantella"], argv)
    assert code in {0, 1, 2}
    assert all(line.isprintable() and len(line) < 20_000 for line in shown(lines))
    assert code == 0 or not changed


@given(st.text(alphabet='ab "\\\t#\n', max_size=40))
def test_batch_lines_are_split_or_refused(text: str) -> None:
    try:
        words = [split_words(line) for _, line in logical_lines(text)]
    except UsageProblem:
        return
    assert sum(map(len, words)) <= len(text)


@given(st.lists(st.text(alphabet='ab "\\#', min_size=1, max_size=8), min_size=1, max_size=5))
def test_what_a_batch_quotes_comes_out_again(words: list[str]) -> None:
    quoted = ['"' + word.replace("\\", "\\\\").replace('"', '\\"') + '"' for word in words]
    assert split_words(" ".join(quoted)) == words
