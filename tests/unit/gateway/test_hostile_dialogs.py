"""Nothing that a client sends to Execute or over SSH crashes a command, or comes out of it as more than printable lines."""

import asyncio
import copy
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import asyncssh
import pytest
from asyncssh.misc import SoftEOFReceived
from hypothesis import given, settings
from hypothesis import strategies as st

from fakes.legacy_services import NOW, LegacyServices
from keyreeve.errors import FieldInvalid
from keyreeve.gateway.v1 import legacy_gateway_pb2 as pb
from keyreeve_gateway.execute.dialog import Dialog
from keyreeve_gateway.execute.service import LegacyCommands
from keyreeve_gateway.programs import PROGRAMS
from keyreeve_gateway.settings import LegacySettings
from support.gateway import OpenedSession
from support.hostile_input import answers, command_lines
from support.ssh_channel import Channel, quoted
from support.transcripts import Recorder

SERVER = "newyork.example.com"
COMMANDS = LegacyCommands(PROGRAMS, LegacySettings(), lambda: NOW)
EVENTS = (
    asyncssh.BreakReceived(0),
    asyncssh.SignalReceived("INT"),
    SoftEOFReceived(),
    asyncssh.TerminalSizeChanged(1, 1, 1, 1),
)
program_lines = st.sampled_from(PROGRAMS).flatmap(
    lambda program: command_lines(program).map(lambda argv: (program.name, argv))
)
questions = st.integers(0, 3)
messages = st.one_of(
    st.builds(lambda number, text: pb.ExecuteRequest(answer=pb.Answer(number=number, text=text)), questions, answers()),
    st.builds(
        lambda number, contents, last: pb.ExecuteRequest(
            file_part=pb.FilePart(number=number, contents=contents, last=last)
        ),
        questions,
        answers(),
        st.booleans(),
    ),
    st.builds(lambda text: pb.ExecuteRequest(file_part=pb.FilePart(number=1, problem=text)), st.text(max_size=20)),
    st.builds(lambda name: pb.ExecuteRequest(start=pb.ExecuteStart(program=name)), st.text(max_size=5)),
    st.just(pb.ExecuteRequest()),
)


def after_the_setup(run: Callable[[LegacyServices, OpenedSession], Coroutine[None, None, Any]]) -> tuple[Any, bool]:
    """What a run on an array of two brings, and whether it has changed anything; the audit records are harmless."""

    async def play() -> tuple[Any, bool]:
        services = LegacyServices(Recorder())
        await services.give(f"array sales: {SERVER} boston.example.com")
        before = copy.deepcopy(services.state())
        session = OpenedSession("spiffe://t/o", services.clients(), [], asyncio.get_running_loop().create_future())
        brought = await run(services, session)
        assert all(text.isprintable() for record in session.records for text in record)
        return brought, services.state() != before

    return asyncio.run(play())


@dataclass
class HostileClient:
    """Sends some messages at once, and the others one by one when it is asked something."""

    early: list[pb.ExecuteRequest]
    replies: "deque[bytes | pb.ExecuteRequest | None]"
    sent: "asyncio.Queue[pb.ExecuteRequest | None]" = field(default_factory=asyncio.Queue)

    async def requests(self) -> AsyncIterator[pb.ExecuteRequest]:
        for message in self.early:
            yield message
        while (following := await self.sent.get()) is not None:
            yield following

    def reply(self, response: pb.ExecuteResponse) -> None:
        reply = self.replies.popleft() if self.replies else None
        if isinstance(reply, bytes) and response.HasField("question"):
            reply = pb.ExecuteRequest(answer=pb.Answer(number=response.question.number, text=reply))
        elif isinstance(reply, bytes):
            number = response.file_question.number
            reply = pb.ExecuteRequest(file_part=pb.FilePart(number=number, contents=reply, last=True))
        self.sent.put_nowait(reply)


async def execute(
    name: str, argv: list[str], client: HostileClient, _services: LegacyServices, session: OpenedSession
) -> int | None:
    """The exit code of a command over Execute; None: the client's messages have ended it."""
    command = COMMANDS.command_line(name, argv, {"HOSTNAME": SERVER})
    dialog = Dialog(client.requests(), interactive=True)
    work = partial(COMMANDS.carry_out, command, session)
    try:
        async for response in dialog.run(work, session.wait_closed):
            assert all(line.isprintable() for line in response.output.lines)
            assert response.question.prompt.isprintable()
            if response.HasField("question") or response.HasField("file_question"):
                client.reply(response)
            elif response.HasField("exit"):
                return response.exit.code
    except FieldInvalid as invalid:
        assert invalid.message.isprintable()  # noqa: PT017 - it is one of two ends
        return None
    raise AssertionError("no exit code")


@settings(max_examples=60)
@given(
    program_lines,
    st.lists(messages, max_size=2),
    st.lists(st.one_of(answers(), messages, st.none()), max_size=4),
)
def test_execute_survives_any_command_line_and_any_order_of_messages(
    line: tuple[str, list[str]], early: list[pb.ExecuteRequest], replies: list[Any]
) -> None:
    code, changed = after_the_setup(
        lambda services, session: execute(*line, HostileClient(early, deque(replies)), services, session)
    )
    assert code in {0, 1, 2, None}
    assert code != 2 or not changed


async def over_ssh(channel: Channel, _services: LegacyServices, session: OpenedSession) -> None:
    await channel.serve(COMMANDS, session)


def is_harmless(output: Iterable[str]) -> bool:
    """Whether every write is one printable line, or a prompt."""
    return all(text.removesuffix("\n").isprintable() for text in output)


typed_lines = st.one_of(answers().map(lambda one: one.decode("utf-8", "replace") + "\n"), st.sampled_from(EVENTS))


@settings(max_examples=60)
@given(
    st.one_of(program_lines.map(lambda line: quoted(*line)), st.text(max_size=60)),
    st.lists(typed_lines, max_size=4),
    st.sampled_from([None, "xterm"]),
    st.sampled_from([SERVER, "a\nb", "\x1b[2J", "x" * 300, ""]),
)
def test_a_command_over_ssh_survives_any_text(
    command: str, typed: list[str | Exception], term: str | None, server: str
) -> None:
    channel = Channel(command, {"KEYREEVE_SERVER": server, "LD_PRELOAD": "x"}, term, deque(typed))
    _, changed = after_the_setup(partial(over_ssh, channel))
    assert channel.code in {0, 1, 2, 130}
    assert is_harmless(channel.output)
    assert not any("internal error" in text for text in channel.output)
    assert channel.code != 2 or not changed


@pytest.mark.parametrize("term", [None, "xterm"])
def test_a_shell_over_ssh_survives_any_lines(term: str | None) -> None:
    @settings(max_examples=40)
    @given(st.lists(st.one_of(program_lines.map(lambda line: quoted(*line) + "\n"), typed_lines), max_size=6))
    def check(typed: list[str | Exception]) -> None:
        channel = Channel(None, {"KEYREEVE_SERVER": SERVER}, term, deque(typed))
        after_the_setup(partial(over_ssh, channel))
        assert channel.code in {0, 1, 2, 130}
        assert is_harmless(channel.output)
        assert not any("internal error" in text for text in channel.output)

    check()
