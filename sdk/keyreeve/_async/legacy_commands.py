"""Command lines of the legacy products, carried out by the gateway."""

from collections.abc import AsyncGenerator
from typing import Protocol

import grpc

from keyreeve._async import runtime
from keyreeve._async.rotating import RotatingChannel
from keyreeve.errors import FileUnusable, ServiceStopping
from keyreeve.gateway.v1 import legacy_gateway_pb2 as pb
from keyreeve.legacy_values import LegacyCommandLine
from keyreeve.plaintext import Plaintext
from keyreeve.proof_wire import to_certificate_proof
from keyreeve.session_proofs import certificate_proof
from keyreeve.status import error_from_rpc

METHOD = "/keyreeve.gateway.v1.LegacyGateway/Execute"
MAX_SECONDS = 3_600.0
"""The longest that a command and the answers to its questions may take."""
PART_BYTES = 65_536


class Terminal(Protocol):
    """Where the output of a command goes, and where its answers come from."""

    @property
    def interactive(self) -> bool:
        """Whether a person can answer."""

    def say(self, line: str = "") -> None:
        """Write a line of output."""

    def warn(self, line: str) -> None:
        """Write a line on standard error."""

    async def ask(self, prompt: str) -> str | None:
        """Ask a person; None when there is none."""

    async def ask_secret(self, prompt: str) -> Plaintext | None:
        """Read a secret, without an echo from a person; None when there is no more input."""

    async def read_file(self, name: str, limit: int) -> bytes:
        """Read a file, `-` for standard input, up to a number of bytes and one more. Raises `FileUnusable`."""


class LegacyCommandClient:
    """The legacy commands; reached as `Client.gateway.commands`."""

    def __init__(self, channel: RotatingChannel) -> None:
        self._channel = channel

    async def execute(self, command: LegacyCommandLine, terminal: Terminal, *, seconds: float = MAX_SECONDS) -> int:
        """Have a command line carried out on behalf of the context's operator; return its exit code.

        It is not repeated: a command line is carried out as often as it is sent. Raises `keyreeve.errors`.
        """
        generation = await self._channel.take()
        exchange = runtime.Exchange(generation.channel, METHOD, pb.ExecuteResponse.FromString, seconds)
        try:
            hello = (await exchange.receive()).hello
            await exchange.send(pb.ExecuteRequest(start=self._start(command, terminal, hello.spki_sha256)))
            while True:
                message = await exchange.receive()
                if message.HasField("exit"):
                    await exchange.wait_until_ended()
                    return message.exit.code
                async for answer in _answers(message, command, terminal):
                    await exchange.send(answer)
        except grpc.RpcError as failure:
            raise error_from_rpc(failure, self._channel.description) from None
        except runtime.ABORTED:
            if runtime.is_being_cancelled():
                raise
            raise ServiceStopping("the client was closed during a command") from None
        finally:
            exchange.cancel()
            await self._channel.give_back(generation)

    def _start(self, command: LegacyCommandLine, terminal: Terminal, gateway_spki_sha256: bytes) -> pb.ExecuteStart:
        return pb.ExecuteStart(
            proof=to_certificate_proof(certificate_proof(self._channel.context, gateway_spki_sha256)),
            program=command.program,
            arguments=[argument.encode("utf-8", "surrogateescape") for argument in command.arguments],
            environment=command.environment,
            interactive=terminal.interactive,
        )


async def _answers(
    message: pb.ExecuteResponse, command: LegacyCommandLine, terminal: Terminal
) -> AsyncGenerator[pb.ExecuteRequest, None]:
    """Show what the gateway says, and yield what answers it; it gets no file that the command line does not name."""
    match message.WhichOneof("message"):
        case "output":
            write = terminal.warn if message.output.error else terminal.say
            for line in message.output.lines:
                write(line)
        case "question":
            answer = pb.Answer(number=message.question.number)
            if message.question.secret:
                typed = await terminal.ask_secret(message.question.prompt)
                text = None if typed is None else typed.reveal()
            else:
                said = await terminal.ask(message.question.prompt)
                text = None if said is None else said.encode("utf-8", "surrogateescape")
            if text is not None:
                answer.text = text
            yield pb.ExecuteRequest(answer=answer)
        case "file_question":
            question = message.file_question
            contents, problem = b"", f"the command line does not name a file {question.name!a}"
            if question.name in command.arguments:
                try:
                    contents, problem = await terminal.read_file(question.name, question.limit), ""
                except FileUnusable as failure:
                    problem = failure.message
            if problem:
                yield pb.ExecuteRequest(file_part=pb.FilePart(number=question.number, last=True, problem=problem))
                return
            for begin in range(0, max(len(contents), 1), PART_BYTES):
                part = contents[begin : begin + PART_BYTES]
                last = begin + PART_BYTES >= len(contents)
                yield pb.ExecuteRequest(file_part=pb.FilePart(number=question.number, contents=part, last=last))
