"""Child processes of a benchmark: JSON lines over pipes, and a common start time.

The monotonic clock is the same in all processes of a machine, so a start time can be sent to them.
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
"""Seconds between sending the start time and the start: the slowest process must have read it."""
_END_SECONDS = 3.0
_LONGEST_LINE = 64 * 1024 * 1024

Document = dict[str, Any]


class ParentGone(Exception):
    """The parent process has ended or closed the pipe."""


class Parent:
    """The parent process, as its child sees it."""

    def __init__(self, begin: Callable[[], Awaitable[float]]) -> None:
        self._begin = begin

    def tell(self, document: Document) -> None:
        """Report progress."""
        _say({"progress": document})

    async def ready(self, **facts: object) -> float:
        """Report readiness and wait for the start time (monotonic clock). Raises `ParentGone`."""
        _say({"ready": facts})
        return await self._begin()


def serve_parent(work: Callable[[Document, Parent], Awaitable[Document]]) -> None:
    """Run as a child: read orders, do the work, and send its result or its error."""

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
    """A child process: `python -m MODULE`."""

    def __init__(self, module: str, process: asyncio.subprocess.Process) -> None:
        self._module = module
        self._process = process
        self._told: Callable[[Document], None] = lambda _: None

    @property
    def pid(self) -> int:
        return self._process.pid

    async def wait_for(self, kind: str) -> Document:
        """Read until it sends a message of this kind. Raises the error it sends, or `StartFailed` when it exits."""
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
        raise StartFailed(f"a benchmark process ({self._module}) exited with {await self._process.wait()}")

    async def order(self, document: Document) -> None:
        """Send it a message."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(document).encode() + b"\n")
        await self._process.stdin.drain()

    def on_progress(self, told: Callable[[Document], None]) -> None:
        """Call this with each progress message."""
        self._told = told

    async def end(self) -> None:
        """Close its pipe, which makes it exit, and kill it if it does not."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            await asyncio.wait_for(self._process.wait(), _END_SECONDS)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()


async def start(module: str, stack: AsyncExitStack, *arguments: str) -> Child:
    """Start a process that the stack ends."""
    # A fresh interpreter: gRPC does not survive a fork.
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-P", "-m", module, *arguments,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=_LONGEST_LINE,
    )  # fmt: skip
    child = Child(module, process)
    stack.push_async_callback(child.end)
    return child


async def start_all(module: str, orders: Sequence[Document], stack: AsyncExitStack) -> list[Child]:
    """Start a process for each of the orders and wait until all are ready. Raises the error of any of them."""
    children = [await start(module, stack) for _ in orders]
    for child, order in zip(children, orders, strict=True):
        await child.order(order)
    async with asyncio.timeout(READY_SECONDS):
        for child in children:
            await child.wait_for("ready")
    return children


async def begin_all(children: Sequence[Child]) -> float:
    """Send all processes the same start time and return it."""
    start_at = time.monotonic() + _HEAD_START
    for child in children:
        await child.order({"start": start_at})
    return start_at


async def results_of(children: Sequence[Child]) -> list[Document]:
    """Wait for the results of all processes."""
    return list(await asyncio.gather(*(child.wait_for("result") for child in children)))
