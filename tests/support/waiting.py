"""Waiting for a condition in other processes."""

import asyncio
import fcntl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TypeVar

T = TypeVar("T")

LONGEST = 60.0


def wait_for(what: str, look: Callable[[], T | None], seconds: float = LONGEST) -> T:
    """Poll until `look` returns a true value, and return it; fail with `what` after the time limit."""
    pause = threading.Event()
    until = time.monotonic() + seconds
    while True:
        seen = look()
        if seen:
            return seen
        if time.monotonic() > until:
            raise AssertionError(f"not within {seconds:g} s: {what}")
        pause.wait(0.02)


@contextmanager
def locked(what: str, path: Path, seconds: float = LONGEST, *, shared: bool = False) -> Iterator[None]:
    """Hold the lock of a file; fail with `what` its holder does when it is held for too long."""
    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    with path.open("w") as file:
        wait_for(f"another process has finished: {what}", lambda: _try_lock(file, kind), seconds)
        yield


def _try_lock(file: IO[str], kind: int) -> bool:
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


async def wait_until(what: str, look: Callable[[], T | None], seconds: float = LONGEST) -> T:
    """The same where the event loop has to go on meanwhile."""
    until = time.monotonic() + seconds
    while not (seen := look()):
        assert time.monotonic() < until, f"not within {seconds:g} s: {what}"
        await moment()
    return seen


async def moment() -> None:
    """Wait for as little as lets other processes get on."""
    await asyncio.sleep(0.02)


@contextmanager
def going_on(act: Callable[[], None]) -> Iterator[None]:
    """Do something again and again while the context is active; its failure is raised at the end."""
    stop, failed = threading.Event(), []

    def work() -> None:
        try:
            while not stop.wait(0.03):
                act()
        except BaseException as failure:  # noqa: BLE001 - raised again where the test sees it
            failed.append(failure)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
    if failed:
        raise failed[0]
