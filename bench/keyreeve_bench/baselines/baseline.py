"""Common parts of all baselines: a server on a free port, client certificates, and the load to put on it."""

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

IN_FLIGHT = (4, 16, 64)
"""Requests in flight, of which each baseline is measured with the number that gives it the highest rate."""
_READY_SECONDS = 30.0
_STOP_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Baseline:
    """A running baseline; `orders` is the file that tells a client process how to call it."""

    settings: str
    """Its configuration, for the report."""
    orders: Path
    """JSON file: address, certificates, path, what marks success."""
    requests: Path
    """File with the request bodies."""
    prepare: Callable[[float], None] = lambda _: None
    """Makes the bodies for a number of seconds, where each body can be sent only once."""

    def load(self, settings: BenchSettings, steps: Sequence[Step], in_flight: int) -> Load:
        """Build the load of a run; each request in flight has its own connection."""
        self.prepare(sum(step.seconds for step in steps))
        return Load(
            context=self.orders,
            corpus=self.requests,
            profile="",
            steps=steps,
            processes=settings.processes,
            connections=in_flight,
            marker="0" * 12,
            client="https",
            timeout=settings.timeout,
            keeps_serials=False,
        )


def program(name: str) -> str:
    """Find a baseline's program. Raises `StartFailed` when it is not on PATH."""
    found = shutil.which(name)
    if found is None:
        raise StartFailed(f"`{name}` is not on PATH; `make bench-baselines` builds it into .bench/bin")
    return found


def free_port() -> int:
    """Find a free port of the loopback address."""
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
