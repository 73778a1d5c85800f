"""Execute: the same commands over a stream, for the operator who proves to be there and for nobody else."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest

from fakes.legacy_services import NOW, LegacyServices
from keyreeve import aio, errors
from keyreeve._async import runtime
from keyreeve._async.legacy_commands import METHOD
from keyreeve.gateway.v1 import legacy_gateway_pb2 as pb
from keyreeve.identity import Role
from keyreeve.legacy_values import LegacyCommandLine
from keyreeve.proof_wire import to_certificate_proof
from keyreeve.session_proofs import certificate_proof
from keyreeve.status import error_from_rpc
from support.gateway import SPKI_SHA256, RunningGateway, running_gateway
from support.transcripts import GOLDEN, Recorder, ScriptedConsole, Stage, play, transcripts
from support.waiting import wait_until

SERVER = "newyork.example.com"
NEW = ["passcache", "new", "--anon", "--resource", ".../_dns/rome.example.com", "--resuser", "guest"]


@dataclass
class World:
    """A gateway over services in memory."""

    recorder: Recorder
    services: LegacyServices
    gateway: RunningGateway

    def console(self, *answers: str, interactive: bool = True) -> ScriptedConsole:
        return ScriptedConsole(self.recorder, list(answers), {}, interactive)

    async def execute(self, *argv: str, console: Any = None, client: aio.Client | None = None) -> int:
        line = LegacyCommandLine("tarantella", argv, {"HOSTNAME": SERVER})
        commands = (client or self.gateway.client).gateway.commands
        try:
            return await commands.execute(line, console or self.console())
        finally:
            await self.gateway.until_closed()


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    recorder = Recorder()
    services = LegacyServices(recorder)
    await services.give(f"array sales: {SERVER} boston.example.com")
    async with running_gateway(tmp_path, services.clients()) as gateway:
        yield World(recorder, services, gateway)


def apart(text: str) -> list[str]:
    """A transcript with the calls of each command before what is shown: over a stream they have no order between them."""
    ordered: list[str] = []
    calls: list[str] = []
    shown: list[str] = []
    for line in text.splitlines():
        if line.startswith("= "):
            ordered += [*calls, *shown, line]
            calls, shown = [], []
        elif line.startswith("> "):
            calls.append(line)
        else:
            shown.append(line)
    return ordered


async def test_commands_do_through_the_gateway_what_their_transcripts_say(tmp_path: Path) -> None:
    async with running_gateway(tmp_path, None, lambda: NOW) as gateway:
        for path in transcripts():
            recorder = Recorder()
            services = LegacyServices(recorder)
            gateway.sessions.services = services.clients()
            played = await play(path, Stage(None, services.give, recorder, lambda: NOW, run=gateway.run))
            assert apart(played) == apart(path.read_text()), str(path.relative_to(GOLDEN))


async def test_what_has_been_carried_out_is_recorded_for_the_operator_and_nothing_else_is(world: World) -> None:
    assert await world.execute(*NEW, console=world.console("a secret")) == 0
    assert await world.execute(*NEW, console=world.console("a secret")) == 1
    assert await world.execute("passcache", "new") == 2
    assert await world.execute("help") == 0
    assert world.gateway.sessions.records == [
        ("tarantella passcache new", "OK", ""),
        ("tarantella passcache new", "ALREADY_EXISTS", "ENTRY_EXISTS"),
    ]
    assert "secret" not in repr(world.gateway.sessions.records)


async def test_a_file_is_sent_only_if_the_command_line_names_it(world: World) -> None:
    console = world.console()
    console.files["batch"] = b"--anon --resource .../_dns/a.example --resuser a --respass one\n" * 3_000
    assert (
        await world.execute("passcache", "new", "--file", "batch", console=console) == 1
    )  # the second is there already
    assert len(world.services.entries) == 1
    assert await world.execute("passcache", "new", "--file", "missing", console=console) == 1
    assert "No such file" in world.recorder.lines[-1]


async def test_a_proof_of_another_operator_is_refused(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    other = await world.gateway.process.client(Role.OPERATOR)
    proof = certificate_proof(other.context, SPKI_SHA256)
    monkeypatch.setattr("keyreeve._async.legacy_commands.certificate_proof", lambda *_: proof)
    with pytest.raises(errors.AccessDenied):
        await world.execute("array", "list")
    assert world.recorder.lines == []


async def test_a_proof_for_another_gateway_is_refused(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    proof = certificate_proof(world.gateway.client.context, bytes(32))
    monkeypatch.setattr("keyreeve._async.legacy_commands.certificate_proof", lambda *_: proof)
    with pytest.raises(errors.SessionProofRefused):
        await world.execute("array", "list")


@pytest.mark.parametrize("role", sorted(set(Role) - {Role.ADMIN, Role.OPERATOR, Role.AUDITOR}))
async def test_only_operators_may_call(world: World, role: Role) -> None:
    with pytest.raises(errors.KeyreeveError) as refused:
        await world.execute("array", "list", client=await world.gateway.process.client(role))
    assert refused.value.code in {"PERMISSION_DENIED", "UNAUTHENTICATED"}
    assert world.gateway.sessions.opened == []


async def test_a_session_that_is_over_ends_the_command(world: World) -> None:
    class Patient(ScriptedConsole):
        async def ask_secret(self, prompt: str) -> Any:
            world.gateway.sessions.opened[-1].over.set_result(errors.SessionClosed("it was closed"))
            await asyncio.Event().wait()

    command = asyncio.ensure_future(world.execute(*NEW, console=Patient(world.recorder, [], {})))
    await wait_until("the session is closed", lambda: world.gateway.sessions.closed == 1)
    command.cancel()
    await asyncio.wait({command})
    assert world.services.entries == {}


class Raw:
    """A client that sends whatever the test says."""

    def __init__(self, world: World, channel: Any) -> None:
        self.world, self.exchange = world, runtime.Exchange(channel, METHOD, pb.ExecuteResponse.FromString, 30)

    async def start(self, *argv: bytes, program: str = "tarantella", **environment: str) -> None:
        assert (await self.exchange.receive()).hello.spki_sha256 == SPKI_SHA256
        proof = to_certificate_proof(certificate_proof(self.world.gateway.client.context, SPKI_SHA256))
        await self.exchange.send(
            pb.ExecuteRequest(
                start=pb.ExecuteStart(
                    proof=proof,
                    program=program,
                    arguments=argv,
                    environment=environment or {"HOSTNAME": SERVER},
                    interactive=True,
                )
            )
        )

    async def end(self) -> tuple[list[str], int | errors.KeyreeveError]:
        """The lines until the end, and how it ends."""
        lines: list[str] = []
        try:
            while True:
                message = await self.exchange.receive()
                lines += message.output.lines
                if message.HasField("exit"):
                    return lines, message.exit.code
        except grpc.RpcError as failure:
            return lines, error_from_rpc(failure, "gateway")
        finally:
            await self.world.gateway.until_closed()


@pytest.fixture
async def raw(world: World) -> Any:
    channel = world.gateway.client.service("gateway")._channel
    generation = await channel.take()
    yield lambda: Raw(world, generation.channel)
    await channel.give_back(generation)


HOSTILE = (
    b"\x1b[2J\x1b]0;owned\x07",
    b"line\nSUCCESS: forged",
    b"\r! forged",
    "\u202egnp.exe".encode(),
    "\u2028".encode(),
    b"\x00",
    b"\xff\xfe",
    b"x" * 1_000_000,
    "é".encode() * 100_000,
    b"../../etc/passwd",
    b"",
)


@pytest.mark.parametrize("hostile", HOSTILE, ids=lambda one: repr(one[:12]))
async def test_a_hostile_argument_is_refused_or_escaped(world: World, raw: Any, hostile: bytes) -> None:
    for argv in (
        [hostile],
        [*(word.encode() for word in NEW[:-1]), hostile],
        [b"passcache", b"new", b"--file", hostile],
    ):
        before = dict(world.services.entries)
        call = raw()
        await call.start(*argv)
        answered = 0
        while answered < 3:  # a question for the password, or for the file
            message = await call.exchange.receive()
            answered += 1
            assert all(line.isprintable() for line in message.output.lines)
            if message.HasField("question"):
                await call.exchange.send(pb.ExecuteRequest(answer=pb.Answer(number=1, text=b"\x1b[31m\nsecret")))
            elif message.HasField("file_question"):
                await call.exchange.send(
                    pb.ExecuteRequest(file_part=pb.FilePart(number=1, contents=hostile, last=True))
                )
            elif message.HasField("exit"):
                assert message.exit.code in {0, 1, 2}
                assert message.exit.code != 2 or world.services.entries == before
                break
        call.exchange.cancel()
        await world.gateway.until_closed()
    assert all("\n" not in "".join(record) for record in world.gateway.sessions.records)


@pytest.mark.parametrize(
    "message",
    [
        pb.ExecuteRequest(),
        pb.ExecuteRequest(start=pb.ExecuteStart(program="tarantella")),
        pb.ExecuteRequest(answer=pb.Answer(number=2, text=b"early")),
        pb.ExecuteRequest(answer=pb.Answer(number=1, text=b"x" * 4_097)),
        pb.ExecuteRequest(file_part=pb.FilePart(number=1, contents=b"x", last=True)),
    ],
    ids=("nothing", "a second start", "another number", "too long", "a file"),
)
async def test_a_message_out_of_turn_ends_the_call_and_changes_nothing(world: World, raw: Any, message: Any) -> None:
    call = raw()
    await call.start(*(word.encode() for word in NEW))
    assert (await call.exchange.receive()).question.number == 1
    await call.exchange.send(message)
    lines, ended = await call.end()
    assert isinstance(ended, errors.FieldInvalid)
    assert (lines, world.services.entries) == ([], {})


async def test_an_answer_before_its_question_ends_the_call(world: World, raw: Any) -> None:
    call = raw()
    await call.start(b"array", b"list")
    await call.exchange.send(pb.ExecuteRequest(answer=pb.Answer(number=1, text=b"early")))
    _, ended = await call.end()
    # The server may end the call while the client still writes, which grpc reports as an error of its own.
    assert ended == 0 or isinstance(ended, errors.FieldInvalid | errors.InternalError)
    assert world.services.entries == {}


async def test_a_client_that_goes_away_during_a_question_has_changed_nothing(world: World, raw: Any) -> None:
    call = raw()
    await call.start(*(word.encode() for word in NEW))
    await call.exchange.receive()
    call.exchange.cancel()
    await world.gateway.until_closed()
    assert world.services.entries == {}
    assert world.gateway.sessions.records == [("tarantella passcache new", "CANCELLED", "")]


@pytest.mark.parametrize(
    ("program", "environment"),
    [("sh", {"HOSTNAME": SERVER}), ("tarantella", {"LD_PRELOAD": "x"}), ("mmp", {"KEYREEVE_SERVER": "a\nb"})],
)
async def test_other_programs_and_variables_are_refused(
    world: World, raw: Any, program: str, environment: dict[str, str]
) -> None:
    call = raw()
    await call.start(b"help", program=program, **environment)
    lines, ended = await call.end()
    assert isinstance(ended, errors.FieldInvalid)
    assert (lines, world.gateway.sessions.opened) == ([], [])
