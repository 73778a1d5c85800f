"""The manager's side of the fork server: fork processes, watch and replace them.

A process made so is the manager's own child (the fork server forks twice, and the manager is its subreaper): its exit
code is collected here, and it continues when the fork server ends. This module imports neither grpc nor the database.
"""

import array
import asyncio
import ctypes
import json
import logging
import os
import signal
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress

from keyreeve_chassis.processes.fork_server import LONGEST_REQUEST, READY

_PR_SET_CHILD_SUBREAPER = 36
_START_SECONDS = 120.0
"""What a fork server has for its imports."""
_ANSWER_SECONDS = 30.0
_AGAIN_SECONDS = 1.0
"""Before a fork server that ended is replaced in advance: other restarts need the processor more."""

log = logging.getLogger(__name__)


class Forked:
    """A process made by a fork server, with the interface of `asyncio.subprocess.Process`."""

    def __init__(self, pid: int, guard: int, stdout: asyncio.StreamReader) -> None:
        """Watch the child `pid`; `guard` is the write end of its standard input, whose end tells it to stop."""
        self.pid = pid
        self.stdout: asyncio.StreamReader | None = stdout
        self.returncode: int | None = None
        """Its exit code, that of a signal negative; None while it runs."""
        self._guard = guard
        self._loop = asyncio.get_running_loop()
        self._ended = asyncio.Event()
        self._handle = os.pidfd_open(pid)
        self._loop.add_reader(self._handle, self._collect)

    def _collect(self) -> None:
        self._loop.remove_reader(self._handle)
        _, status = os.waitpid(self.pid, 0)
        self.returncode = os.waitstatus_to_exitcode(status)
        os.close(self._handle)
        self.let_go()
        self._ended.set()

    def let_go(self) -> None:
        """Close its standard input: it ends as if its parent had."""
        guard, self._guard = self._guard, -1
        if guard >= 0:
            os.close(guard)

    async def wait(self) -> int:
        """Wait until it has ended; its exit code."""
        await self._ended.wait()
        assert self.returncode is not None, "it has ended"
        return self.returncode

    def terminate(self) -> None:
        """Send SIGTERM, unless it has ended."""
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL, unless it has ended."""
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        if self.returncode is None:  # not collected, so the id is still its own
            os.kill(self.pid, number)


class ForkServer:
    """A running fork server."""

    def __init__(self, process: asyncio.subprocess.Process, line: socket.socket) -> None:
        """Take a process and our end of its socket."""
        self.process = process
        self._line = line
        self._turn = asyncio.Lock()
        self._asking: set[asyncio.Task[Forked]] = set()

    @classmethod
    async def start(cls, argv: Sequence[str]) -> "ForkServer":
        """Start a fork server and wait for its imports. Raises `ChildProcessError` when it ends instead."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        with theirs:
            try:
                process = await asyncio.create_subprocess_exec(*argv, stdin=theirs.fileno())
            except BaseException:
                ours.close()
                raise
        fork_server = cls(process, ours)
        try:
            said = await fork_server._receive(_START_SECONDS)
        except BaseException:
            await fork_server.close()
            raise
        if said != READY:
            await fork_server.close()
            raise ChildProcessError(f"the fork server ended with {process.returncode} before it was ready")
        log.info("a fork server is ready, pid %d", process.pid)
        return fork_server

    async def fork(self, name: str, arguments: Sequence[str], environment: Mapping[str, str]) -> Forked:
        """Fork a process of this name with `arguments` and these additional variables.

        Raises `ChildProcessError` when it cannot, or does not answer; in that case the process is ended.
        """
        asking = asyncio.create_task(self._ask(name, arguments, environment))
        self._asking.add(asking)
        asking.add_done_callback(self._asking.discard)
        try:
            return await asyncio.shield(asking)
        except asyncio.CancelledError:
            # An answer that is not read would be taken for the next one.
            asking.add_done_callback(_let_go)
            raise

    async def _ask(self, name: str, arguments: Sequence[str], environment: Mapping[str, str]) -> Forked:
        asked = json.dumps({"name": name, "arguments": list(arguments), "environment": dict(environment)}).encode()
        assert len(asked) <= LONGEST_REQUEST, "it holds a few words and paths"
        theirs_in, guard = os.pipe()
        stdout, theirs_out = os.pipe()
        try:
            async with self._turn:
                rights = array.array("i", [theirs_in, theirs_out])
                self._line.sendmsg([asked], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
                pid = _pid_in(await self._receive(_ANSWER_SECONDS))
        except BaseException as failed:
            os.close(guard)
            os.close(stdout)
            if isinstance(failed, OSError):
                raise ChildProcessError(f"no process for {name}: {failed}") from failed
            raise
        finally:
            os.close(theirs_in)
            os.close(theirs_out)
        reader = asyncio.StreamReader()
        forked = Forked(pid, guard, reader)
        pipe = os.fdopen(stdout, "rb", 0)  # the transport closes it
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), pipe)
        return forked

    async def _receive(self, seconds: float) -> bytes:
        try:
            async with asyncio.timeout(seconds):
                return await asyncio.get_running_loop().sock_recv(self._line, LONGEST_REQUEST)
        except ConnectionError:
            return b""
        except TimeoutError:
            self.process.kill()
            raise ChildProcessError(f"the fork server said nothing for {seconds:g} seconds and is killed") from None

    async def close(self) -> None:
        """End the fork server; its processes continue."""
        while self._asking:
            await asyncio.wait(self._asking)
        self._line.close()
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                await self.process.wait()
        except TimeoutError:
            with suppress(ProcessLookupError):
                self.process.kill()
            await self.process.wait()


class ForkServers:
    """The current fork server, and its successor when it ends or must be renewed."""

    def __init__(self, program: Sequence[str], arguments: Sequence[str]) -> None:
        """`program` serves as a fork server; `arguments` say where the settings are."""
        self._program = program
        self.environment: dict[str, str] = {}
        """Variables for its children, beside those of this process."""
        self._arguments = arguments
        self._used: ForkServer | None = None
        self._turn = asyncio.Lock()

    async def fork(self, name: str, *role: str) -> Forked:
        """Fork a process that runs a command of the program. Raises `ChildProcessError`."""
        return await (await self._one()).fork(name, [*role, *self._arguments], self.environment)

    async def answer(self, *role: str, fork_server: ForkServer | None = None) -> tuple[int, bytes]:
        """Run a command to its end; return its exit code and output. Raises `ChildProcessError`."""
        used = fork_server or await self._one()
        # Without the variables: it is not to count among the others.
        forked = await used.fork(role[0], [*role, *self._arguments], {})
        assert forked.stdout is not None, "it is a pipe"
        printed = await forked.stdout.read()
        return await forked.wait(), printed

    async def renew(self, why_not: Callable[[ForkServer], Awaitable[str | None]]) -> str | None:
        """Run further processes from the code that is on disk now, unless `why_not` returns why not.

        Raises `ChildProcessError` when that code does not start.
        """
        fresh = await self._start()
        try:
            refused = await why_not(fresh)
        except BaseException:
            await fresh.close()
            raise
        if refused is not None:
            await fresh.close()
            return refused
        async with self._turn:
            old, self._used = self._used, fresh
        if old is not None:
            await old.close()
        return None

    async def keep(self) -> None:
        """Keep a fork server ready, forever."""
        while True:
            try:
                fork_server = await self._one()
            except ChildProcessError as failed:
                log.error("%s", failed)  # noqa: TRY400 - the traceback would be ours, not the fork server's
            else:
                code = await fork_server.process.wait()
                if self._used is fork_server:
                    log.error("the fork server ended with %d and is started again", code)
            await asyncio.sleep(_AGAIN_SECONDS)

    async def close(self) -> None:
        """End the fork server; its processes continue."""
        async with self._turn:
            used, self._used = self._used, None
        if used is not None:
            await used.close()

    async def _one(self) -> ForkServer:
        async with self._turn:
            if self._used is not None and self._used.process.returncode is not None:
                ended, self._used = self._used, None
                await ended.close()
            if self._used is None:
                self._used = await self._start()
            return self._used

    async def _start(self) -> ForkServer:
        return await ForkServer.start(self._program)


def adopt_grandchildren() -> None:
    """Become the parent of orphaned grandchildren. Raises `OSError`."""
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"this process cannot adopt its grandchildren: {os.strerror(number)}")


def _pid_in(answer: bytes) -> int:
    if not answer:
        raise ChildProcessError("the fork server ended")
    told = json.loads(answer)
    if "pid" not in told:
        raise ChildProcessError(told["refused"])
    return int(told["pid"])


def _let_go(asking: "asyncio.Task[Forked]") -> None:
    if not asking.cancelled() and asking.exception() is None:
        asking.result().let_go()
