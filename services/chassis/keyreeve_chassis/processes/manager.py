"""The process manager: one coordinator and the workers, restarted, replaced and stopped in order.

They are forked from the fork server, which has imported what they need (fork_client.py). This module imports neither
grpc nor the database: what supervises must not fail with what it supervises.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

EX_CONFIG = 78
"""Exit code of a child that cannot start with its settings or database: starting it again would not help."""
READY = b"ready\n"
EXIT_SECONDS = 5.0
"""What a process has beyond its time for draining, before it is ended by force."""
_LONGEST_PAUSE = 5.0
_STABLE_SECONDS = 10.0
_MEMORY_SECONDS = 5.0
"""Between looks at the memory of workers."""
_LEAST_LIFE_SECONDS = 60.0
"""Of a worker before it is replaced for its memory: its successors must not follow one another at once."""

log = logging.getLogger(__name__)


def own_memory(pid: int) -> int:
    """Return how many bytes a process has that are no file's (proc(5), `RssAnon`); 0: it is gone."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) * 1024
    return 0


class ChildRefused(Exception):
    """A child cannot start with its settings or database; it has printed why on standard error."""


class Process(Protocol):
    """A child process; its exit code is None while it runs."""

    pid: int
    stdout: asyncio.StreamReader | None

    @property
    def returncode(self) -> int | None:
        """Its exit code, that of a signal negative; None while it runs."""
        ...

    async def wait(self) -> int:
        """Wait until it has ended; its exit code."""
        ...

    def terminate(self) -> None:
        """Ask it to end."""
        ...

    def kill(self) -> None:
        """End it."""
        ...


@dataclass
class _Child:
    name: str
    make: Callable[[], Coroutine[Any, Any, Process]]
    process: Process | None = None
    failures: int = 0
    started: float = 0.0
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while it is started or replaced."""
    replaced: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when another process has taken its place, which from then on is the one to watch."""

    async def start(self) -> None:
        """Start the process and wait until it is ready. Raises `ChildRefused`, `ChildProcessError`."""
        self.started = time.monotonic()
        self.process = await self.make()
        await _until(self.process, self.name, READY)
        self.ready.set()

    async def pause(self) -> None:
        """Wait before the next start: not after a first failure, then longer and longer."""
        self.failures = 1 if time.monotonic() - self.started > _STABLE_SECONDS else self.failures + 1
        if self.failures > 1:
            await asyncio.sleep(min(0.1 * 2**self.failures, _LONGEST_PAUSE))

    async def stop(self, limit: float) -> None:
        """Ask the process to end, and kill it after `limit` seconds."""
        if self.process is not None and self.process.returncode is None:
            self.process.terminate()
            try:
                async with asyncio.timeout(limit):
                    await self.process.wait()
            except TimeoutError:
                log.error("%s did not end within %g seconds and is killed", self.name, limit)  # noqa: TRY400 - no fault
                with suppress(ProcessLookupError):
                    self.process.kill()
                await self.process.wait()


async def _first(*what: Awaitable[object]) -> None:
    """Return when the first is done; the others are cancelled."""
    tasks = [asyncio.ensure_future(one) for one in what]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()


async def _until(process: Process, name: str, line: bytes) -> None:
    """Wait for a line of output. Raises `ChildRefused`, or `ChildProcessError` when the process ended."""
    assert process.stdout is not None, "it is a pipe"
    if await process.stdout.readline() == line:
        log.info("%s is %s, pid %d", name, line.decode().strip(), process.pid)
        return
    code = await process.wait()
    if code == EX_CONFIG:
        raise ChildRefused(name)
    raise ChildProcessError(f"{name} ended with {code} before it was ready")


@dataclass
class Manager:
    """Runs the coordinator and the workers until `stop` is set."""

    fork: Callable[..., Coroutine[Any, Any, Process]]
    """Makes a process: told its name, and the command of the service's program that it runs, word by word."""
    workers: int
    """How many of them there are."""
    stop: asyncio.Event
    limit: float
    """Seconds that a child has to end when it is told to."""
    metrics: Path
    """Directory in which the children count."""
    renew: Callable[[], Awaitable[str | None]] | None = None
    """Called before the workers are replaced, to have the next processes run the code on disk; why not, or None.

    May raise `ChildProcessError`: that code does not start."""
    replaced: Callable[[str | None], None] = lambda _: None
    """Called when the workers have been replaced, or with why they were not."""
    most_memory: int | None = None
    """Bytes of its own that a worker may have; one that has more is replaced. None: not looked at."""
    memory: Callable[[int], int] = own_memory
    """Looks up how many bytes of its own a process has."""
    clock: Callable[[], float] = time.monotonic
    _replacing: asyncio.Lock = field(default_factory=asyncio.Lock)
    _roll: asyncio.Event = field(default_factory=asyncio.Event)
    _leaving: _Child | None = None
    """The worker that has been replaced last; it may still drain."""

    def replace_workers(self) -> None:
        """Replace the workers one by one; each new one serves before the old one drains."""
        self._roll.set()

    async def run(self) -> None:
        """Start everything, keep it running, and end the workers first: they need the coordinator to drain.

        Raises `ChildRefused` when a child cannot start at all.
        """
        coordinator = _Child("coordinator", partial(self.fork, "coordinator", "coordinator"))
        workers = [self._worker(index) for index in range(self.workers)]
        loops = [asyncio.create_task(self._keep(coordinator))]
        beside: list[asyncio.Task[None]] = []
        stopped, ready = asyncio.create_task(self.stop.wait()), asyncio.create_task(coordinator.ready.wait())
        try:
            await asyncio.wait([stopped, ready, *loops], return_when=asyncio.FIRST_COMPLETED)
            if coordinator.ready.is_set() and not self.stop.is_set():
                loops += [asyncio.create_task(self._keep(worker)) for worker in workers]
                beside.append(asyncio.create_task(self._roll_on(workers)))
                if self.most_memory is not None:
                    beside.append(asyncio.create_task(self._watch_memory(workers, self.most_memory)))
            await asyncio.wait([stopped, *loops, *beside], return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.stop.set()
            for task in beside:
                task.cancel()
            results = await asyncio.gather(*beside, return_exceptions=True)
            leaving = [] if self._leaving is None else [self._leaving]
            await asyncio.gather(*(worker.stop(self.limit) for worker in [*workers, *leaving]))
            await coordinator.stop(self.limit)
            ready.cancel()
            results += await asyncio.gather(*loops, return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException) and not isinstance(result, asyncio.CancelledError):
                raise result

    async def _keep(self, child: _Child) -> None:
        process: Process | None = None
        while not self.stop.is_set():
            try:
                async with child.turn:
                    if child.process is process and not self.stop.is_set():
                        await child.start()
                    process = child.process
                    child.replaced.clear()
                assert process is not None, "it has started"
                if self.stop.is_set():  # told so while it was being made, when there was nothing yet to be stopped
                    await child.stop(self.limit)
                await _first(process.wait(), child.replaced.wait())
                if child.process is not process:
                    continue
                self._forget_gauges(process.pid)
                if not self.stop.is_set():
                    log.error("%s ended with %d and is started again", child.name, await process.wait())
            except ChildProcessError as failed:
                process = child.process
                if not self.stop.is_set():
                    log.error("%s", failed)  # noqa: TRY400 - the traceback would be ours, not the child's
            if not self.stop.is_set():
                await child.pause()

    # --- Replacing --------------------------------------------------------------------------------------------------

    async def _roll_on(self, workers: Sequence[_Child]) -> None:
        while True:
            await self._roll.wait()
            self._roll.clear()
            try:
                refused = None if self.renew is None else await self.renew()
            except ChildProcessError as failed:
                refused = str(failed)
            if refused is None:
                log.info("replacing the workers one after the other")
                for worker in workers:
                    refused = await self._replace(worker)
                    if refused is not None:
                        break
            if refused is not None:
                log.error("the workers were not all replaced: %s", refused)
            try:
                self.replaced(refused)
            except (OSError, ValueError) as failed:
                log.error("the outcome could not be recorded: %s", failed)  # noqa: TRY400

    async def _watch_memory(self, workers: Sequence[_Child], most: int) -> None:
        """Replace workers that have too much memory, forever."""
        while True:
            await asyncio.sleep(_MEMORY_SECONDS)
            for worker in workers:
                await self.replace_when_large(worker, most)

    async def replace_when_large(self, worker: _Child, most: int) -> None:
        """Replace a worker that has more than `most` bytes of its own, unless it is young."""
        process = worker.process
        if process is None or process.returncode is not None or not worker.ready.is_set():
            return
        if self.clock() - worker.started < _LEAST_LIFE_SECONDS or (found := self.memory(process.pid)) <= most:
            return
        log.warning("%s has %d MiB of memory and is replaced", worker.name, found >> 20)
        if (refused := await self._replace(worker)) is not None:
            log.error("%s", refused)

    async def _replace(self, worker: _Child) -> str | None:
        """Start a worker's successor, then end the worker. Returns why not, if it failed."""
        async with self._replacing, worker.turn:
            old, new = worker.process, replace(worker, process=None)
            try:
                await new.start()
            except (ChildRefused, ChildProcessError) as failed:
                return f"{worker.name} goes on, since its successor did not start: {failed}"
            except asyncio.CancelledError:
                if new.process is not None and new.process.returncode is None:
                    new.process.kill()
                raise
            worker.process, worker.started = new.process, new.started
            worker.replaced.set()
        if old is not None:
            self._leaving = replace(worker, process=old)
            await self._leaving.stop(self.limit)
            self._forget_gauges(old.pid)
        return None

    def _forget_gauges(self, pid: int) -> None:
        """Remove the gauges of an ended process (prometheus_client's file names)."""
        for left in self.metrics.glob(f"gauge_live*_{pid}.db"):
            left.unlink(missing_ok=True)

    def _worker(self, index: int) -> _Child:
        return _Child(f"worker {index}", partial(self.fork, f"worker-{index}", "worker", "--index", str(index)))
