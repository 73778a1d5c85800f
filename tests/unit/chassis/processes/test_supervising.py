import asyncio
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from keyreeve_chassis.processes.manager import EX_CONFIG, READY, ChildRefused, Manager, _Child, own_memory

DEAF = f"""
import signal, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)
sys.stdout.write({READY.decode()!r})
sys.stdout.flush()
signal.pause()
"""


def program(text: str) -> Callable[[], Coroutine[Any, Any, asyncio.subprocess.Process]]:
    pipe = asyncio.subprocess.PIPE
    return partial(asyncio.create_subprocess_exec, sys.executable, "-P", "-c", text, stdin=pipe, stdout=pipe)


async def test_a_child_that_does_not_hear_is_killed_when_its_time_is_over():
    child = _Child("deaf", program(DEAF))
    await child.start()
    async with asyncio.timeout(30):
        await child.stop(0.1)
    assert child.process.returncode == -signal.SIGKILL


async def test_a_child_that_may_not_start_is_distinguished_from_one_that_failed():
    refused = _Child("refused", program(f"raise SystemExit({EX_CONFIG})"))
    with pytest.raises(ChildRefused, match="refused"):
        await refused.start()
    failed = _Child("failed", program("raise SystemExit(1)"))
    with pytest.raises(ChildProcessError, match="ended with 1"):
        await failed.start()


WORKER = f"""
import sys
sys.stdout.write({READY.decode()!r})
sys.stdout.flush()
sys.stdin.read()
"""


async def nothing(*_: str) -> asyncio.subprocess.Process:
    raise AssertionError("no process is to be made")


async def test_a_child_that_is_made_while_the_manager_stops_is_stopped_too(tmp_path: Path):
    manager = Manager(nothing, 0, asyncio.Event(), 30, tmp_path)
    worker = _Child("worker", program(WORKER))
    keeping = asyncio.create_task(manager._keep(worker))
    await asyncio.sleep(0)  # it begins, and makes a process
    manager.stop.set()
    async with asyncio.timeout(60):
        await keeping
    assert worker.process.returncode is not None


async def test_a_worker_continues_when_its_successor_does_not_start(tmp_path: Path):
    manager = Manager(nothing, 0, asyncio.Event(), 30, tmp_path)
    worker = _Child("worker", program(WORKER))
    await worker.start()
    old, worker.make = worker.process, program("raise SystemExit(1)")
    assert "did not start" in await manager._replace(worker)
    assert worker.process is old
    assert old.returncode is None
    worker.make = program(WORKER)
    assert await manager._replace(worker) is None
    assert old.returncode is not None
    assert worker.process.returncode is None
    await worker.stop(30)


async def test_the_workers_stay_when_the_next_ones_cannot_be_made(tmp_path: Path):
    """As after an upgrade that does not start."""
    refusals: list[str | None] = []
    told = asyncio.Event()

    async def fail() -> str | None:
        raise ChildProcessError("the fork server ended with 1 before it was ready")

    def tell(refused: str | None) -> None:
        refusals.append(refused)
        told.set()

    manager = Manager(nothing, 0, asyncio.Event(), 30, tmp_path, renew=fail, replaced=tell)
    worker = _Child("worker", program(WORKER))
    await worker.start()
    manager.replace_workers()
    rolling = asyncio.create_task(manager._roll_on([worker]))
    async with asyncio.timeout(60):
        await told.wait()
    rolling.cancel()
    assert refusals == ["the fork server ended with 1 before it was ready"]
    assert worker.process.returncode is None
    await worker.stop(30)


async def test_a_worker_with_too_much_memory_is_replaced_once_it_is_old_enough(tmp_path: Path):
    seconds, memory = [0.0], [100]
    manager = Manager(nothing, 0, asyncio.Event(), 30, tmp_path, memory=lambda _: memory[0], clock=lambda: seconds[0])
    worker = _Child("worker", program(WORKER))
    await worker.start()
    worker.started, old = 0.0, worker.process
    await manager.replace_when_large(worker, 99)
    assert worker.process is old, "it has only just begun"
    seconds[0] = 1000.0
    await manager.replace_when_large(worker, 100)
    assert worker.process is old, "it has as much as it may"
    await manager.replace_when_large(worker, 99)
    assert worker.process is not old
    assert old.returncode is not None
    assert worker.process.returncode is None
    await worker.stop(30)


def test_the_memory_of_a_process_is_its_own():
    assert own_memory(os.getpid()) > 1_000_000
    assert own_memory(2**22 + 1) == 0
