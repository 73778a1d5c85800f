"""The dialog of one call of Execute: the console of a command, as messages in both directions."""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable

from keyreeve.errors import FieldInvalid, FileUnusable, KeyreeveError
from keyreeve.gateway.v1 import legacy_gateway_pb2 as pb
from keyreeve.plaintext import Plaintext
from keyreeve_gateway.text import one_line

MOST_ANSWER = 4_096
"""Bytes of an answer."""
MOST_LINES = 1_000
"""In one message."""
MOST_MESSAGE = 1 << 20
"""Characters of lines in one message, unless one line alone has more."""
_FAILED = 1
_log = logging.getLogger("keyreeve.gateway")

_Next = pb.ExecuteResponse | KeyreeveError


class Dialog:
    """A `Console` whose other end is the client of a stream."""

    def __init__(self, requests: AsyncIterator[pb.ExecuteRequest], *, interactive: bool) -> None:
        """Take what the client says from now on."""
        self._requests = requests
        self._interactive = interactive
        self._outgoing: asyncio.Queue[_Next] = asyncio.Queue()
        self._questions = 0
        self._open: _OpenQuestion | None = None
        self._ended = False

    # --- The console --------------------------------------------------------------------------------------------------

    @property
    def interactive(self) -> bool:
        """Whether a person can answer."""
        return self._interactive

    def say(self, line: str = "") -> None:
        """Write a line of output."""
        self._write(line, error=False)

    def warn(self, line: str) -> None:
        """Write a line on standard error."""
        self._write(line, error=True)

    async def ask(self, prompt: str) -> str | None:
        """Ask a person; None when there is none."""
        answer = await self._ask(prompt, secret=False) if self._interactive else None
        return None if answer is None else answer.decode("utf-8", "replace")

    async def ask_secret(self, prompt: str) -> Plaintext | None:
        """Read a secret, or a line of standard input; None when there is no more input."""
        answer = await self._ask(prompt, secret=True)
        return None if answer is None else Plaintext(answer)

    async def read_file(self, name: str, limit: int) -> bytes:
        """Read a file of the client. Raises `FileUnusable`."""
        question = self._next_question(limit + 1)
        asked = pb.FileQuestion(number=question.number, name=name, limit=limit)
        self._outgoing.put_nowait(pb.ExecuteResponse(file_question=asked))
        contents = await question.answer
        if contents is None:
            raise FileUnusable(question.problem or f"cannot read {name}: the client has sent no contents")
        return contents

    # --- The stream ---------------------------------------------------------------------------------------------------

    async def run(
        self, work: Callable[["Dialog"], Awaitable[int]], closed: Callable[[], Awaitable[KeyreeveError]]
    ) -> AsyncGenerator[pb.ExecuteResponse, None]:
        """Run a command and yield what it says, its exit code last.

        Raises `FieldInvalid` for a message of the client that is out of turn, and what `closed` brings.
        """
        tasks = {asyncio.ensure_future(one) for one in (self._work(work), self._read(), self._pass_on(closed))}
        try:
            held: _Next | None = None
            while True:
                following = held or await self._outgoing.get()
                held = None
                if isinstance(following, KeyreeveError):
                    raise following
                if following.HasField("output"):
                    held = self._gather(following.output)
                yield following
                if following.HasField("exit"):
                    return
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    async def _work(self, work: Callable[["Dialog"], Awaitable[int]]) -> None:
        try:
            code = await work(self)
        except KeyreeveError as failure:
            self._outgoing.put_nowait(failure)
            return
        except Exception as defect:  # noqa: BLE001 - a traceback would show what was typed
            _log.error("a legacy command ended with %s", type(defect).__name__)
            self.warn(f"internal error: {type(defect).__name__}; please report it")
            code = _FAILED
        self._outgoing.put_nowait(pb.ExecuteResponse(exit=pb.Exit(code=code)))

    async def _read(self) -> None:
        try:
            async for request in self._requests:
                self._take(request)
        except KeyreeveError as refused:
            self._outgoing.put_nowait(refused)
            return
        self._ended = True
        if self._open is not None:
            self._open.settle(None)

    async def _pass_on(self, closed: Callable[[], Awaitable[KeyreeveError]]) -> None:
        self._outgoing.put_nowait(await closed())

    def _take(self, request: pb.ExecuteRequest) -> None:
        """Take an answer. Raises `FieldInvalid`."""
        kind = request.WhichOneof("message")
        question = self._open
        said: pb.Answer | pb.FilePart = request.answer if kind == "answer" else request.file_part
        if kind not in {"answer", "file_part"} or question is None or said.number != question.number:
            raise FieldInvalid(f"message: {kind or 'nothing'} is out of turn")
        if isinstance(said, pb.Answer):
            if question.is_file or len(said.text) > MOST_ANSWER:
                raise FieldInvalid(f"answer: a question has an answer of at most {MOST_ANSWER} bytes")
            question.settle(said.text if said.HasField("text") else None)
        else:
            question.add(said)
        if question.answer.done():
            self._open = None

    async def _ask(self, prompt: str, *, secret: bool) -> bytes | None:
        question = self._next_question(0)
        asked = pb.Question(number=question.number, prompt=one_line(prompt), secret=secret)
        self._outgoing.put_nowait(pb.ExecuteResponse(question=asked))
        return await question.answer

    def _next_question(self, limit: int) -> "_OpenQuestion":
        self._questions += 1
        question = self._open = _OpenQuestion(self._questions, limit)
        if self._ended:
            question.settle(None)
        return question

    def _write(self, line: str, *, error: bool) -> None:
        text = one_line(line).encode("utf-8", "backslashreplace").decode()
        self._outgoing.put_nowait(pb.ExecuteResponse(output=pb.Output(error=error, lines=[text])))

    def _gather(self, output: pb.Output) -> _Next | None:
        """Add the lines that wait already to a message; return what follows them, if that has been taken."""
        size = len(output.lines[0])
        while not self._outgoing.empty() and len(output.lines) < MOST_LINES:
            following = self._outgoing.get_nowait()
            if isinstance(following, KeyreeveError) or not following.HasField("output"):
                return following
            size += len(following.output.lines[0])
            if following.output.error != output.error or size > MOST_MESSAGE:
                return following
            output.lines.extend(following.output.lines)
        return None


class _OpenQuestion:
    """A question that has not been answered: for text, or with a limit for a file."""

    def __init__(self, number: int, limit: int) -> None:
        self.number = number
        self.is_file = limit > 0
        self.problem = ""
        self.answer: asyncio.Future[bytes | None] = asyncio.get_running_loop().create_future()
        self._limit = limit
        self._contents = bytearray()

    def settle(self, answer: bytes | None) -> None:
        """Set the answer."""
        if not self.answer.done():
            self.answer.set_result(answer)

    def add(self, part: pb.FilePart) -> None:
        """Add a part of a file. Raises `FieldInvalid`."""
        self._contents += part.contents
        if not self.is_file or len(self._contents) > self._limit:
            raise FieldInvalid("file_part: more than was asked for")
        if part.problem:
            self.problem = one_line(part.problem[:200])
            self.settle(None)
        elif part.last:
            self.settle(bytes(self._contents))
