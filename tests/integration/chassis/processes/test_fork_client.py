"""A real fork server with few imports: the processes that it forks, and how they end."""

import asyncio
import ctypes
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from keyreeve_chassis.processes.fork_client import Forked, ForkServer, ForkServers, adopt_grandchildren
from support.waiting import wait_for

_PR_SET_CHILD_SUBREAPER = 36

PROGRAM = """
import json, os, random, signal, sys, threading
from cryptography.hazmat.primitives.asymmetric import ed25519
from keyreeve_chassis.processes import fork_server
from keyreeve_chassis.standard_output import service_output

ed25519.Ed25519PrivateKey.generate()  # whatever OpenSSL keeps for randomness is there before the fork
held = open(__file__)

def run(arguments):
    how, *more = arguments
    if how == "exit":
        return int(more[0])
    if how == "fail":
        raise RuntimeError("failed on purpose")
    if how == "tell":
        os.write(service_output(), b"for the collector of logs\\n")
        print("for the manager")
        return 0
    if how == "wait":
        print("waiting", flush=True)
        sys.stdin.read()
        return 5
    key = ed25519.Ed25519PrivateKey.generate().public_key().public_bytes_raw()
    paths = {int(n): f"/proc/self/fd/{n}" for n in os.listdir("/proc/self/fd")}
    print(json.dumps({
        "code": CODE,
        "random": [random.random(), random.getrandbits(64), os.urandom(8).hex(), key.hex()],
            "name": open("/proc/self/comm").read().strip(),
        "variable": os.environ.get("GIVEN"),
        "signals": [
            signal.getsignal(signal.SIGINT) is signal.default_int_handler,
            signal.getsignal(signal.SIGTERM) is signal.SIG_DFL,
            signal.getsignal(signal.SIGHUP) is signal.SIG_IGN,
        ],
        "files": [(n, os.readlink(path)) for n, path in paths.items() if os.path.lexists(path)],
    }))
    return 0

raise SystemExit(fork_server.serve("ca", run, IMPORTED))
"""


@pytest.fixture(autouse=True)
def _adopting() -> Iterator[None]:
    adopt_grandchildren()
    yield
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


def program(directory: Path, code: int = 1, *imported: str) -> list[str]:
    """The words that start a fork server whose processes say `code`."""
    file = directory / "program.py"
    file.write_text(PROGRAM.replace("CODE", str(code)).replace("IMPORTED", repr(imported)))
    return [sys.executable, str(file), "fork_server"]


@asynccontextmanager
async def fork_servers_of(words: list[str]) -> AsyncIterator[ForkServers]:
    fork_servers = ForkServers(words, [])
    try:
        yield fork_servers
    finally:
        await fork_servers.close()


async def ended(forked: Forked) -> int:
    async with asyncio.timeout(60):
        return await forked.wait()


def parent_of(forked: Forked) -> int:
    # The second word is in parentheses and may hold blanks.
    return int(Path(f"/proc/{forked.pid}/stat").read_text().rpartition(") ")[2].split()[1])


def own_output() -> str:
    """Where this process's standard output leads."""
    return str(Path("/proc/self/fd/1").readlink())


def interrupts_a_fresh_one() -> bool:
    """Whether SIGINT does what it usually does to a new interpreter; a shell's background has it ignored."""
    asked = "import signal; print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)"
    done = subprocess.run([sys.executable, "-c", asked], capture_output=True, check=True)
    return done.stdout == b"True\n"


async def test_what_a_process_tells_the_collector_of_logs_does_not_go_to_its_manager(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    async with fork_servers_of(program(tmp_path)) as fork_servers:
        assert await fork_servers.answer("tell") == (0, b"for the manager\n")
    assert capfd.readouterr().out == "for the collector of logs\n"


async def test_a_process_begins_like_a_fresh_one(tmp_path: Path):
    async with fork_servers_of(program(tmp_path)) as fork_servers:
        fork_servers.environment["GIVEN"] = "yes"
        made = [await fork_servers.fork("say", "say") for _ in range(3)]
        said = [json.loads(await one.stdout.read()) for one in made]
        assert [await ended(one) for one in made] == [0, 0, 0]
        assert json.loads((await fork_servers.answer("say"))[1])["variable"] is None, "it is not one of them"
    for one in said:
        assert one["name"] == "kr-ca-say"
        assert one["variable"] == "yes"
        assert one["signals"] == [interrupts_a_fresh_one(), True, True]
        # Beside the streams: what the program had opened itself, the standard output that it had, and nothing of the fork
        # server's line to its manager.
        others = [path for number, path in one["files"] if number > 2]
        assert others == [str(tmp_path / "program.py"), own_output()]
        assert not any("socket" in path for _, path in one["files"])
    for values in zip(*(one["random"] for one in said), strict=True):
        assert len(set(values)) == 3


async def test_exit_codes_arrive(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    async with fork_servers_of(program(tmp_path)) as fork_servers:
        assert await ended(await fork_servers.fork("seven", "exit", "7")) == 7
        assert await ended(await fork_servers.fork("failing", "fail")) == 1
        killed = await fork_servers.fork("killed", "wait")
        killed.kill()
        assert await ended(killed) == killed.returncode == -signal.SIGKILL
        killed.kill()  # one that has ended is left alone
    assert "failed on purpose" in capfd.readouterr().err


async def test_a_process_outlives_its_fork_server_and_the_next_one_has_another(tmp_path: Path):
    async with fork_servers_of(program(tmp_path)) as fork_servers:
        waiting = await fork_servers.fork("waiting", "wait")
        assert await waiting.stdout.readline() == b"waiting\n"
        assert parent_of(waiting) == os.getpid(), "the manager's own child"
        first = fork_servers._used.process
        first.kill()
        await first.wait()
        assert (await fork_servers.answer("say"))[0] == 0
        assert fork_servers._used.process.pid != first.pid
        assert waiting.returncode is None
    waiting.let_go()
    assert await ended(waiting) == 5


async def test_a_fork_server_is_kept_ready(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("keyreeve_chassis.processes.fork_client._AGAIN_SECONDS", 0.01)
    async with fork_servers_of(program(tmp_path)) as fork_servers:
        keeping = asyncio.create_task(fork_servers.keep())
        await fork_servers.answer("say")
        first = fork_servers._used
        first.process.kill()
        await asyncio.to_thread(wait_for, "another fork server runs", lambda: fork_servers._used not in {None, first})
        keeping.cancel()


async def test_renewing_takes_up_the_code_on_disk_or_refuses_and_stays(tmp_path: Path):
    async def fine(_: ForkServer) -> str | None:
        return None

    async def refuse(fresh: ForkServer) -> str | None:
        code, printed = await fork_servers.answer("say", fork_server=fresh)
        return f"asked the next one, which is {json.loads(printed)['code']} and ends with {code}"

    async def code() -> int:
        return json.loads((await fork_servers.answer("say"))[1])["code"]

    async with fork_servers_of(program(tmp_path, 1)) as fork_servers:
        assert await code() == 1
        program(tmp_path, 2)
        assert await code() == 1
        assert await fork_servers.renew(refuse) == "asked the next one, which is 2 and ends with 0"
        assert await code() == 1
        assert await fork_servers.renew(fine) is None
        assert await code() == 2
        program(tmp_path, 3, "no_such_module")
        with pytest.raises(ChildProcessError, match="ended with 1 before it was ready"):
            await fork_servers.renew(fine)
        assert await code() == 2


async def test_a_fork_server_with_threads_is_not_forked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "threads.py").write_text(
        "import threading\nthreading.Thread(target=threading.Event().wait, daemon=True).start()"
    )
    async with fork_servers_of(program(tmp_path, 1, "threads")) as fork_servers:
        with pytest.raises(ChildProcessError, match="has threads"):
            await fork_servers.fork("none", "say")


async def test_one_who_no_longer_waits_for_a_process_leaves_none_behind(tmp_path: Path):
    async with fork_servers_of(program(tmp_path)) as fork_servers:
        await fork_servers.answer("say")
        forking = asyncio.create_task(fork_servers.fork("unwanted", "wait"))
        await asyncio.sleep(0)  # it begins to ask
        await asyncio.sleep(0)
        [asking] = fork_servers._used._asking
        forking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await forking
        assert (await fork_servers.answer("exit", "3"))[0] == 3, "each gets its own answer"
        assert await ended(asking.result()) == 5


async def test_a_fork_server_that_hangs_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    async with fork_servers_of(program(tmp_path)) as fork_servers:
        await fork_servers.answer("say")
        monkeypatch.setattr("keyreeve_chassis.processes.fork_client._ANSWER_SECONDS", 0.05)
        hanging = fork_servers._used.process
        hanging.send_signal(signal.SIGSTOP)
        with pytest.raises(ChildProcessError, match="said nothing"):
            await fork_servers.fork("none", "say")
        assert await hanging.wait() == -signal.SIGKILL
        monkeypatch.setattr("keyreeve_chassis.processes.fork_client._ANSWER_SECONDS", 60)
        assert (await fork_servers.answer("say"))[0] == 0


async def test_signals_to_the_whole_group_leave_the_fork_server_to_the_manager(tmp_path: Path):
    async with fork_servers_of(program(tmp_path)) as fork_servers:
        await fork_servers.answer("say")
        before = fork_servers._used.process
        for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
            before.send_signal(number)
        assert (await fork_servers.answer("say"))[0] == 0
        assert fork_servers._used.process is before
        assert before.returncode is None
