"""What all peers have in common: a server of theirs on a free port, certificates to reach it with, and how to load it."""

import asyncio
import contextlib
import shutil
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from keyreeve.errors import StartFailed
from keyreeve_bench.session import Load, Step
from keyreeve_bench.settings import BenchSettings

IN_FLIGHT = 16
"""Requests at once: more makes these servers slower, not faster, once they commit."""
_READY_SECONDS = 30.0
_STOP_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Peer:
    """A peer that serves; `orders` is what a client process of the bench has to know of it."""

    settings: str
    """How it was run, for the report."""
    orders: Path
    """JSON file: address, certificates, path, what marks success."""
    requests: Path
    """The bodies of its requests."""
    prepare: Callable[[float], None] = lambda _: None
    """Makes the bodies for so many seconds, where each may be sent only once."""

    def load(self, settings: BenchSettings, steps: Sequence[Step]) -> Load:
        """The load of a run; each request in flight has a connection of its own."""
        self.prepare(sum(step.seconds for step in steps))
        return Load(
            context=self.orders,
            corpus=self.requests,
            profile="",
            steps=steps,
            processes=settings.processes,
            connections=IN_FLIGHT,
            marker="0" * 12,
            client="https",
            timeout=settings.timeout,
            keeps_serials=False,
        )


def program(name: str) -> str:
    """Where a peer's program is. Raises `StartFailed` when it is not on PATH."""
    found = shutil.which(name)
    if found is None:
        raise StartFailed(f"`{name}` is not on PATH; `make bench-peers` builds it into .bench/bin")
    return found


def free_port() -> int:
    """A port of the loopback address that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def serve(command: Sequence[str], directory: Path, port: int, stack: AsyncExitStack) -> None:
    """Run a server until the stack ends; returns when it accepts connections. Raises `StartFailed`."""
    log = directory / "log"
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *command, cwd=directory, stdin=asyncio.subprocess.DEVNULL, stdout=output, stderr=output
        )
    stack.push_async_callback(_stop, process)
    until = time.monotonic() + _READY_SECONDS
    while True:
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.close()
            return
        if process.returncode is not None or time.monotonic() > until:
            said = "\n       ".join(log.read_text(errors="replace").splitlines()[-8:])
            raise StartFailed(f"{Path(command[0]).name} did not start:\n       {said}")
        await asyncio.sleep(0.05)


async def _stop(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.terminate()
        try:
            await asyncio.wait_for(process.wait(), _STOP_SECONDS)
        except TimeoutError:
            process.kill()
            await process.wait()
