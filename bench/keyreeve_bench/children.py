"""The processes of a bench and how they talk: JSON lines over pipes, and a common moment at which all begin.

The monotonic clock is one for the whole machine, so a moment of it means the same in every process.
"""

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from typing import Any

from keyreeve import errors
from keyreeve.errors import KeyreeveError, StartFailed

READY_SECONDS = 120.0
_HEAD_START = 0.1
"""Seconds between the word to begin and the beginning: the slowest process must have heard it."""
_END_SECONDS = 3.0
_LONGEST_LINE = 64 * 1024 * 1024

Document = dict[str, Any]


class ParentGone(Exception):
    """The process that started this one has ended, or wants nothing more of it."""


class Parent:
    """The process that started this one."""

    def __init__(self, begin: Callable[[], Awaitable[float]]) -> None:
        self._begin = begin

    def tell(self, document: Document) -> None:
        """Tell how far it is."""
        _say({"progress": document})

    async def ready(self, **facts: object) -> float:
        """Say that everything is prepared, and wait for the moment to begin, on the monotonic clock. Raises `ParentGone`."""
        _say({"ready": facts})
        return await self._begin()


def serve_parent(work: Callable[[Document, Parent], Awaitable[Document]]) -> None:
    """Be a child: read orders, do the work, answer its result or the error it ended in."""

    async def read() -> Document:
        line = await asyncio.to_thread(sys.stdin.readline)
        if not line:
            raise ParentGone
        document: Document = json.loads(line)
        return document

    async def begin() -> float:
        return float((await read())["start"])

    async def run() -> None:
        try:
            _say({"result": await work(await read(), Parent(begin))})
        except ParentGone:
            sys.exit(1)
        except KeyreeveError as error:
            _say({"error": [error.code, error.reason, error.message, error.metadata]})

    asyncio.run(run())


def _say(document: Document) -> None:
    sys.stdout.write(json.dumps(document) + "\n")
    sys.stdout.flush()


class Child:
    """A process of ours: `python -m MODULE`."""

    def __init__(self, module: str, process: asyncio.subprocess.Process) -> None:
        self._module = module
        self._process = process
        self._told: Callable[[Document], None] = lambda _: None

    @property
    def pid(self) -> int:
        return self._process.pid

    async def wait_for(self, kind: str) -> Document:
        """Read until it has said this. Raises what it ended in, or `StartFailed` when it just ended."""
        assert self._process.stdout is not None
        while line := await self._process.stdout.readline():
            document = json.loads(line)
            if "progress" in document:
                self._told(document["progress"])
            elif "error" in document:
                code, reason, message, metadata = document["error"]
                raise errors.from_reason(reason, message, code=code, metadata=metadata)
            else:
                found: Document = document[kind]
                return found
        raise StartFailed(f"a process of the bench ({self._module}) ended with {await self._process.wait()}")

    async def order(self, document: Document) -> None:
        """Send it a line."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(document).encode() + b"\n")
        await self._process.stdin.drain()

    def on_progress(self, told: Callable[[Document], None]) -> None:
        """Call this with everything that it tells on the way."""
        self._told = told

    async def end(self) -> None:
        """Let it end, which it does when nobody can tell it anything any more; make it, after a while."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            await asyncio.wait_for(self._process.wait(), _END_SECONDS)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()


async def start(module: str, stack: AsyncExitStack, *arguments: str) -> Child:
    """Start a process that ends with the stack at the latest."""
    # A fresh interpreter: nothing of ours is forked.
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-P", "-m", module, *arguments,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=_LONGEST_LINE,
    )  # fmt: skip
    child = Child(module, process)
    stack.push_async_callback(child.end)
    return child


async def start_all(module: str, orders: Sequence[Document], stack: AsyncExitStack) -> list[Child]:
    """Start a process for each of the orders and wait until all are ready. Raises what one of them ended in."""
    children = [await start(module, stack) for _ in orders]
    for child, order in zip(children, orders, strict=True):
        await child.order(order)
    async with asyncio.timeout(READY_SECONDS):
        for child in children:
            await child.wait_for("ready")
    return children


async def begin_all(children: Sequence[Child]) -> float:
    """Tell all processes to begin at one moment; the moment."""
    start_at = time.monotonic() + _HEAD_START
    for child in children:
        await child.order({"start": start_at})
    return start_at


async def results_of(children: Sequence[Child]) -> list[Document]:
    """What each of the processes answers in the end."""
    return list(await asyncio.gather(*(child.wait_for("result") for child in children)))
