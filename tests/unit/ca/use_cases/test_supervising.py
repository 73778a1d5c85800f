import asyncio
import signal
import sys
from pathlib import Path

import pytest

from keyreeve_ca.master import EX_CONFIG, READY, STANDING_BY, ChildRefused, Master, _Child, _spawn, _until

DEAF = f"""
import signal, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)
sys.stdout.write({READY.decode()!r})
sys.stdout.flush()
signal.pause()
"""


async def test_a_child_that_does_not_hear_is_killed_when_its_time_is_over():
    child = _Child("deaf", [sys.executable, "-P", "-c", DEAF])
    await child.start()
    async with asyncio.timeout(30):
        await child.stop(0.1)
    assert child.process.returncode == -signal.SIGKILL


async def test_a_child_that_may_not_start_is_told_from_one_that_failed():
    refused = _Child("refused", [sys.executable, "-P", "-c", f"raise SystemExit({EX_CONFIG})"])
    with pytest.raises(ChildRefused, match="refused"):
        await refused.start()
    failed = _Child("failed", [sys.executable, "-P", "-c", "raise SystemExit(1)"])
    with pytest.raises(ChildProcessError, match="ended with 1"):
        await failed.start()


RELIEF = f"""
import sys
from pathlib import Path
sys.stdout.write({STANDING_BY.decode()!r})
sys.stdout.flush()
told = sys.stdin.readline()
if told == "--index 7\\n":
    sys.stdout.write({READY.decode()!r})
    sys.stdout.flush()
    sys.stdin.read()
"""
WORKER = f"""
import sys
from pathlib import Path
sys.stdout.write({READY.decode()!r})
sys.stdout.flush()
sys.stdin.read()
"""


def program(text: str) -> list[str]:
    return [sys.executable, "-P", "-c", text]


async def test_a_relief_takes_the_place_of_a_worker_on_orders():
    relief = await _spawn(program(RELIEF))
    await _until(relief, "relief", STANDING_BY)
    worker = _Child("worker", program(WORKER), orders=["--index", "7"])
    await worker.start(relief)
    assert worker.process is relief
    assert worker.ready.is_set()
    await worker.stop(30)


async def test_a_worker_whose_relief_dies_of_it_starts_by_itself(tmp_path: Path):
    relief = _Child("relief", [], process=await _spawn(program(RELIEF)))
    await _until(relief.process, "relief", STANDING_BY)
    master = Master([], [], asyncio.Event(), 30, tmp_path, _standing_by=relief)
    worker = _Child("worker", program(WORKER), orders=["--index", "not a number"])
    await master._start(worker)
    assert relief.process.returncode == 0
    assert worker.process is not relief.process
    assert worker.ready.is_set()
    await worker.stop(30)


async def test_a_relief_that_ended_is_not_counted_on(tmp_path: Path):
    relief = _Child("relief", [], process=await _spawn(program("")))
    await relief.process.wait()
    master = Master([], [], asyncio.Event(), 30, tmp_path, _standing_by=relief)
    worker = _Child("worker", program(WORKER), orders=["--index", "7"])
    await master._start(worker)
    assert worker.process is not relief.process
    await worker.stop(30)


async def test_a_child_that_is_made_while_the_master_stops_is_stopped_too(tmp_path: Path):
    master = Master([], [], asyncio.Event(), 30, tmp_path)
    worker = _Child("worker", program(WORKER))
    keeping = asyncio.create_task(master._keep(worker))
    await asyncio.sleep(0)  # it begins, and makes a process
    master.stop.set()
    async with asyncio.timeout(60):
        await keeping
    assert worker.process.returncode is not None


async def test_a_worker_goes_on_when_its_successor_does_not_start(tmp_path: Path):
    master = Master([], [], asyncio.Event(), 30, tmp_path)
    worker = _Child("worker", program(WORKER), orders=["--index", "7"])
    await worker.start()
    old, worker.argv = worker.process, program("raise SystemExit(1)")
    assert "did not start" in await master._replace(worker)
    assert worker.process is old
    assert old.returncode is None
    worker.argv = program(WORKER)
    assert await master._replace(worker) is None
    assert old.returncode is not None
    assert worker.process.returncode is None
    await worker.stop(30)
