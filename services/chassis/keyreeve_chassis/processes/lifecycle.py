"""The life cycle of one process: background jobs, readiness, orderly end."""

import asyncio
import faulthandler
import gc
import logging
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from keyreeve.errors import StoreUnavailable, WrongDatabase
from keyreeve_chassis.processes import failpoints
from keyreeve_chassis.processes.drain import stop_signals
from keyreeve_chassis.processes.manager import EX_CONFIG, EXIT_SECONDS, READY
from keyreeve_chassis.processes.refusals import StartRefused
from keyreeve_chassis.settings.sections import ServerSettings
from keyreeve_chassis.telemetry import logging as log_setup
from keyreeve_chassis.telemetry.tracing import TracingUnavailable

_STANDARD_INPUT = 0

log = logging.getLogger(__name__)


def main(role: Callable[[], Coroutine[Any, Any, None]], settings: ServerSettings) -> int:
    """Run one process of the service, created by `role`; return its exit code."""
    log_setup.configure(settings.log.level, color=sys.stderr.isatty())
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # it is for the parent, and may reach its whole group
    logging.getLogger("alembic").setLevel(logging.WARNING)  # it says at each start that there was nothing to do
    life = role()  # imports what the process runs, which makes its failpoints known
    try:
        failpoints.arm(os.environ)
        asyncio.run(_reporting(life))
    except (StartRefused, failpoints.FailpointsRefused, TracingUnavailable) as refused:
        log.error("the service cannot start: %s", refused)  # noqa: TRY400 - the message says it all
        return EX_CONFIG
    except WrongDatabase as refused:
        log.error("the service cannot start: %s: %s. %s", refused.reason, refused.message, refused.fix)  # noqa: TRY400
        return EX_CONFIG
    except StoreUnavailable as unavailable:
        cause = getattr(unavailable.__cause__, "orig", None) or unavailable.__cause__ or "no cause is known"
        # Without what stands in quotes: of a mistyped URL, a part of the password may be taken for the host's name.
        told = re.sub(r"""(["']).*\1""", "...", str(cause).partition("\n")[0])
        log.error("%s: %s", unavailable.message, told)  # noqa: TRY400 - that is all there is to say
        return 1
    finally:
        life.close()
    return 0


async def _reporting(life: Coroutine[Any, Any, None]) -> None:
    log_setup.report_loop_failures(asyncio.get_running_loop())
    await life


async def every(seconds: float, work: Callable[[], Awaitable[object]]) -> None:
    """Run `work` periodically, forever; an unreachable database is retried.

    It runs at multiples of its period, so that the jobs of a process at rest wake it up together.
    """
    loop = asyncio.get_running_loop()
    while True:
        await asyncio.sleep(seconds - loop.time() % seconds)
        try:
            await work()
        except StoreUnavailable as unavailable:
            log.warning("background work: %s", unavailable)


def run_tasks(
    stack: AsyncExitStack, jobs: list[Coroutine[Any, Any, None]], failed: "asyncio.Future[None] | None" = None
) -> "asyncio.Future[None]":
    """Run jobs until the stack unwinds; the returned future fails when one of them does."""
    tasks = [asyncio.create_task(job) for job in jobs]
    if failed is None:
        failed = asyncio.get_running_loop().create_future()

    def ended(task: "asyncio.Task[None]") -> None:
        if not task.cancelled() and (error := task.exception()) is not None and not failed.done():
            failed.set_exception(error)

    for task in tasks:
        task.add_done_callback(ended)

    async def stop() -> None:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        failed.cancel()

    stack.push_async_callback(stop)
    return failed


def say_ready() -> None:
    """Tell the parent, which reads the first line.

    Objects made so far are frozen, so that the garbage collector neither scans them nor runs as often.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 50)
    sys.stdout.buffer.write(READY)
    sys.stdout.buffer.flush()


async def until_told(failed: Awaitable[None], drain_seconds: float, *, managed: bool = True) -> None:
    """Wait for a signal, the end of the process manager (of standard input) if `managed`, or a failed background job.

    From then on the process has `drain_seconds` and a little to end; then it is ended by force.
    """
    told = stop_signals()
    loop = asyncio.get_running_loop()

    def watch_parent() -> None:
        # Not sys.stdin: its lock, held by a daemon thread, is fatal to an interpreter that shuts down.
        while os.read(_STANDARD_INPUT, 4096):
            pass
        _end_within(drain_seconds)  # here: a loop that hangs would not hear of it
        loop.call_soon_threadsafe(told.set)

    if managed:
        threading.Thread(target=watch_parent, daemon=True, name="parent").start()
    stopping = asyncio.create_task(told.wait())
    await asyncio.wait([stopping, asyncio.ensure_future(failed)], return_when=asyncio.FIRST_COMPLETED)
    _end_within(drain_seconds)
    if not stopping.done():
        stopping.cancel()
        await failed


def _end_within(drain_seconds: float) -> None:
    # Its watchdog needs no interpreter lock, so it also ends what hangs while the interpreter shuts down.
    faulthandler.dump_traceback_later(drain_seconds + EXIT_SECONDS, exit=True)


def system_clock() -> int:
    """The machine's clock, in seconds since 1970."""
    return int(time.time())


def private_directory(directory: Path) -> None:
    """Create a directory of mode 0700. Raises `StartRefused` when other users can enter it."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    if directory.stat().st_mode & 0o077:
        raise StartRefused(f"others may enter {directory}; chmod 700 {directory}")
