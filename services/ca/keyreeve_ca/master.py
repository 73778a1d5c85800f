"""The parent of the CA's processes: one keeper and the workers, replaced when they die, stopped in order.

It imports neither grpc nor the database: gRPC must not be forked, and what supervises must not fail with what it
supervises. The children notice its death (their standard input ends) and stop by themselves.
"""

import asyncio
import logging
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

EX_CONFIG = 78
"""Exit code of a child that cannot start with its settings or database: starting it again would not help."""
READY = b"ready\n"
EXIT_SECONDS = 5.0
"""What a process has beyond its time for draining, before it is ended by force."""
_LONGEST_PAUSE = 5.0
_STABLE_SECONDS = 10.0

log = logging.getLogger(__name__)


class ChildRefused(Exception):
    """A child cannot start with its settings or database; it has said why on standard error."""


@dataclass
class _Child:
    name: str
    argv: Sequence[str]
    process: asyncio.subprocess.Process | None = None
    failures: int = 0
    started: float = 0.0
    ready: asyncio.Event = field(default_factory=asyncio.Event)

    async def start(self) -> None:
        """Start the process and wait until it says that it is ready. Raises `ChildRefused`, or `ChildProcessError`."""
        self.started = time.monotonic()
        self.process = await asyncio.create_subprocess_exec(
            *self.argv, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
        )
        assert self.process.stdout is not None, "it is a pipe"
        if await self.process.stdout.readline() == READY:
            log.info("%s is ready, pid %d", self.name, self.process.pid)
            self.ready.set()
            return
        code = await self.process.wait()
        if code == EX_CONFIG:
            raise ChildRefused(self.name)
        raise ChildProcessError(f"{self.name} ended with {code} before it was ready")

    async def pause(self) -> None:
        """Wait before the next start: not at all for a first failure, longer and longer for the next ones."""
        self.failures = 1 if time.monotonic() - self.started > _STABLE_SECONDS else self.failures + 1
        if self.failures > 1:
            await asyncio.sleep(min(0.1 * 2**self.failures, _LONGEST_PAUSE))

    async def stop(self, limit: float) -> None:
        """Ask the process to end, and kill it when it has not after `limit` seconds; it has its own, shorter, limit."""
        if self.process is not None and self.process.returncode is None:
            self.process.terminate()
            try:
                await asyncio.wait_for(self.process.wait(), limit)
            except TimeoutError:
                log.error("%s did not end within %g seconds and is killed", self.name, limit)  # noqa: TRY400 - no fault
                with suppress(ProcessLookupError):
                    self.process.kill()
                await self.process.wait()


@dataclass
class Master:
    """Runs `python -m keyreeve_ca keeper` and the workers until `stop` is set."""

    arguments: Sequence[str]
    """What the children are told beside their role: the settings file."""
    workers: Sequence[Sequence[str]]
    """For each worker what it alone is told."""
    stop: asyncio.Event
    limit: float
    """Seconds that a child has to end when it is told to."""
    metrics: Path
    """Directory in which the children count."""

    async def run(self) -> None:
        """Start everything, keep it running, and end it: the workers first, since they need the keeper to drain.

        Raises `ChildRefused` when a child cannot start at all.
        """
        keeper = self._child("keeper", "keeper")
        workers = [
            self._child(f"worker {i}", "worker", "--index", str(i), *told) for i, told in enumerate(self.workers)
        ]
        loops = [asyncio.create_task(self._keep(keeper))]
        stopped, ready = asyncio.create_task(self.stop.wait()), asyncio.create_task(keeper.ready.wait())
        try:
            await asyncio.wait([stopped, ready, *loops], return_when=asyncio.FIRST_COMPLETED)
            if keeper.ready.is_set() and not self.stop.is_set():
                loops += [asyncio.create_task(self._keep(worker)) for worker in workers]
            await asyncio.wait([stopped, *loops], return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.stop.set()
            await asyncio.gather(*(worker.stop(self.limit) for worker in workers))
            await keeper.stop(self.limit)
            ready.cancel()
            results = await asyncio.gather(*loops, return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result

    async def _keep(self, child: _Child) -> None:
        while not self.stop.is_set():
            try:
                await child.start()
                assert child.process is not None, "it has started"
                code = await child.process.wait()
                self._forget_gauges(child.process.pid)
                if not self.stop.is_set():
                    log.error("%s ended with %d and is started again", child.name, code)
            except ChildProcessError as failed:
                if not self.stop.is_set():
                    log.error("%s", failed)  # noqa: TRY400 - the traceback would be ours, not the child's
            if not self.stop.is_set():
                await child.pause()

    def _forget_gauges(self, pid: int) -> None:
        """What a process that has ended shows about itself holds no more (prometheus_client's name for such files)."""
        for left in self.metrics.glob(f"gauge_live*_{pid}.db"):
            left.unlink(missing_ok=True)

    def _child(self, name: str, *role: str) -> _Child:
        return _Child(name, [sys.executable, "-P", "-m", "keyreeve_ca", *role, *self.arguments])
