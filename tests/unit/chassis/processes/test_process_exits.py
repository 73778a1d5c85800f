"""Exits of service processes that are stopped or refuse to start; each one a real process."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from keyreeve_chassis.processes.manager import EX_CONFIG, READY

LONGEST = 60.0
BY_FORCE = 1
"""With what the watchdog ends a process."""

ROLE = """
import asyncio, sys, threading
from keyreeve_chassis.processes import lifecycle

lifecycle.EXIT_SECONDS = 0.1
how, drain_seconds = sys.argv[1], float(sys.argv[2])


def hang() -> None:
    threading.Event().wait()


async def role() -> None:
    loop = asyncio.get_running_loop()
    loop.call_soon(lifecycle.say_ready)  # once it listens to signals
    if how == "loop":
        loop.call_soon(hang)
    await lifecycle.until_told(loop.create_future(), drain_seconds)
    if how == "drain":
        await loop.create_future()
    if how == "thread":
        threading.Thread(target=hang).start()


asyncio.run(role())
"""

OTHER_USER = """
import os, sys
from pathlib import Path
from keyreeve_chassis.local_admin.socket import serve_local_admin
from keyreeve_ca.settings import CaSettings
from keyreeve_chassis.processes import lifecycle

ours = os.geteuid()
os.geteuid = lambda: ours + 1
directory = Path(sys.argv[1])
settings = CaSettings(state_directory=directory)
sys.exit(lifecycle.main(lambda: serve_local_admin(directory / "coordinator.sock", {}, None), settings))
"""


@contextmanager
def role(how: str, drain_seconds: float) -> Iterator[subprocess.Popen[bytes]]:
    """A process that is ready, and hangs somewhere when it is told to end."""
    arguments = [sys.executable, "-P", "-c", ROLE, how, str(drain_seconds)]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == READY
            yield process
        finally:
            process.kill()


def parent_dies(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin is not None
    process.stdin.close()


def signaled(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)


@pytest.mark.parametrize("tell", [parent_dies, signaled])
@pytest.mark.parametrize("how", ["drain", "thread"])
def test_a_process_that_ignores_the_stop_signal_is_killed(how, tell):
    with role(how, 0.1) as process:
        tell(process)
        assert process.wait(LONGEST) == BY_FORCE
        assert process.stderr is not None
        assert b"Timeout" in process.stderr.read(), "it leaves where each thread was"


def test_a_process_whose_loop_hangs_ends_with_its_parent():
    with role("loop", 0.1) as process:
        parent_dies(process)
        assert process.wait(LONGEST) == BY_FORCE


@pytest.mark.parametrize("tell", [parent_dies, signaled])
def test_a_process_that_stops_on_request_is_not_killed(tell):
    with role("nowhere", LONGEST) as process:
        tell(process)
        assert process.wait(LONGEST) == 0


def test_a_socket_directory_of_another_user_is_an_exit_without_restart(tmp_path: Path):
    tmp_path.chmod(0o700)
    ended = subprocess.run(
        [sys.executable, "-P", "-c", OTHER_USER, str(tmp_path)], capture_output=True, check=False, timeout=LONGEST
    )
    assert ended.returncode == EX_CONFIG == 78
    assert b"belongs to another user" in ended.stderr
