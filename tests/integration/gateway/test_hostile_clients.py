"""Hostile command lines and answers, generated, over the real ways in: Execute over gRPC, and Debian's ssh."""

import asyncio
import copy
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from fakes.legacy_services import LegacyServices
from keyreeve import errors
from keyreeve.legacy_values import LegacyCommandLine
from keyreeve_gateway.programs import PROGRAMS
from support.gateway import running_gateway
from support.hostile_input import answers, command_lines
from support.ssh_gateway import SERVER, Done, running_ssh
from support.transcripts import Recorder, ScriptedConsole

pytestmark = pytest.mark.faults
AMOUNT = settings(max_examples=25, phases=[Phase.generate], suppress_health_check=list(HealthCheck))


async def generated(strategy: st.SearchStrategy[Any], check: Callable[[Any], Coroutine[None, None, None]]) -> None:
    """Check generated examples on the loop that serves them."""
    loop = asyncio.get_running_loop()

    @AMOUNT
    @given(strategy)
    def run(example: Any) -> None:
        asyncio.run_coroutine_threadsafe(check(example), loop).result(60)

    await asyncio.to_thread(run)


@pytest.fixture
async def services() -> LegacyServices:
    made = LegacyServices(Recorder())
    await made.give(f"array sales: {SERVER} boston.example.com")
    return made


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.name)
async def test_execute_answers_any_arguments_with_an_exit_code(
    tmp_path: Path, services: LegacyServices, program: Any
) -> None:
    async with running_gateway(tmp_path, services.clients()) as gateway:

        async def check(example: tuple[list[str], list[bytes]]) -> None:
            argv, replies = example
            recorder, before = Recorder(), copy.deepcopy(services.state())
            typed = [reply.decode("utf-8", "replace") for reply in replies]
            console = ScriptedConsole(recorder, typed, {"-": b"".join(replies)})
            code = await gateway.client.gateway.commands.execute(
                LegacyCommandLine(program.name, argv, {"HOSTNAME": SERVER}), console
            )
            assert code in {0, 1, 2}
            assert code != 2 or services.state() == before
            assert all(line.isprintable() and "internal error" not in line for line in recorder.lines)

        await generated(st.tuples(command_lines(program), st.lists(answers(), max_size=3)), check)
        assert all(text.isprintable() for record in gateway.sessions.records for text in record)
        too_long = LegacyCommandLine(program.name, ["x" * 1_000_000] * 8, {"HOSTNAME": SERVER})
        with pytest.raises(errors.KeyreeveError):
            await gateway.client.gateway.commands.execute(too_long, ScriptedConsole(Recorder(), [], {}))
        await gateway.until_closed()


def is_harmless(done: Done) -> bool:
    """Whether a command of ssh has ended with an exit code of ours, or in a closed connection, and with plain lines."""
    text = done.out + done.err
    return done.code in {0, 1, 2, 130, 255} and all(
        line.isprintable() and "internal error" not in line and "Traceback" not in line
        for line in text.replace("\r\n", "\n").split("\n")
    )


async def test_ssh_answers_any_command_and_any_input_with_an_exit_code(
    tmp_path: Path, services: LegacyServices
) -> None:
    lines = st.sampled_from(PROGRAMS).flatmap(
        lambda program: command_lines(program).map(lambda argv: [program.name, *argv])
    )
    async with running_ssh(tmp_path, services.clients()) as gateway:

        async def check(example: tuple[list[str], list[bytes]]) -> None:
            words, replies = example
            # A command line of a process has no NUL, and an argument at most 128 KiB.
            command = (
                " ".join(words).replace("\0", "\x01")[:30_000].encode("utf-8", "surrogateescape").decode("latin-1")
            )
            before = copy.deepcopy(services.state())
            done = await gateway.ssh(command, given=b"\n".join(replies))
            assert is_harmless(done), done
            assert done.code != 2 or services.state() == before

        await generated(st.tuples(lines, st.lists(answers(), max_size=3)), check)
        typed = b"\n".join([b"x" * 1_000_000, b"\x1b[2J\x07", b"\xff\xfe", b"pki list", b""])
        assert is_harmless(await gateway.ssh(given=typed))
        assert (await gateway.ssh("pki list")).code == 0
        records = [record for opened in gateway.people.opened for record in opened.records]
        assert records
        assert all(text.isprintable() for record in records for text in record)
