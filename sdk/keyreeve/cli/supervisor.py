"""The background process of `keyreeve up`: starts the services, restarts one that dies, stops them on SIGTERM.

One supervisor per state_directory: it holds a lock for as long as it lives. Services outlive it: when it is killed they go on, and
the next supervisor adopts them. So that none is ever lost from sight, a service writes its process id before its
program begins (a shell does, and then becomes the program).
"""

import contextlib
import json
import math
import os
import selectors
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from keyreeve.cli.local_services import SERVICES, Service
from keyreeve.cli.processes import Lock, Running, find, read_pid
from keyreeve.cli.state_directory import StateDirectory, write_file

FIRST_PAUSE = 0.2
LONGEST_PAUSE = 10.0
HEALTHY_AFTER = 30.0
"""Seconds that a service has to live for its next death to count as a first one."""
DRAIN_SECONDS = 30.0
LARGEST_LOG = 10_000_000
LOOK_SECONDS = 10.0
"""Between looks at how large the logs have grown."""
REFUSED = 75
"""Exit code of a supervisor that found another one on its home (EX_TEMPFAIL of sysexits.h)."""

WILL_NOT_START = "exit code 78"
"""How a service ends whose settings or database do not allow a start (EX_CONFIG): the next attempt ends the same way."""

_BECOME = 'echo $$ > "$1" && shift && exec "$@"'


def lock_file(state_directory: StateDirectory) -> Path:
    """The file that the supervisor of a home locks, and that holds its process id."""
    return state_directory.runtime / "supervisor.lock"


def pid_file(state_directory: StateDirectory, service: Service) -> Path:
    """The file that holds the process id of a service's manager process."""
    return state_directory.runtime / f"{service.name}.pid"


def facts_file(state_directory: StateDirectory) -> Path:
    """The file in which the supervisor tells what it knows of each service."""
    return state_directory.runtime / "services.json"


@dataclass(slots=True)
class Facts:
    """What the supervisor knows of one service, for `keyreeve status`."""

    pid: int | None = None
    since: str = ""
    restarts: int = 0
    last_end: str = ""


class _Child:
    """One service under supervision."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.facts = Facts()
        self.running: Running | None = None
        self.program: subprocess.Popen[bytes] | None = None
        self.started = 0.0
        self.pause = FIRST_PAUSE
        self.start_at = 0.0


class Supervisor:
    """Keeps the services of a home running until it is told to stop; `clock` counts seconds from anywhere."""

    def __init__(
        self,
        state_directory: StateDirectory,
        services: Sequence[Service] = SERVICES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._state_directory = state_directory
        self._clock = clock
        self._children = [_Child(service) for service in services]
        self._stopping = False

    def run(self) -> int:
        """Supervise until SIGTERM or SIGINT; answer the exit code of the process."""
        lock = Lock(lock_file(self._state_directory))
        if not lock.take():
            self._log(f"another supervisor runs on {self._state_directory.root}")
            return REFUSED
        woken, waker = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        with selectors.DefaultSelector() as selector:
            selector.register(woken, selectors.EVENT_READ)
            for child in self._children:
                self._adopt(child, selector)
            while not self._stopping:
                for key, _ in selector.select(min(self._start_what_is_due(selector), LOOK_SECONDS)):
                    if key.fd == woken:
                        with contextlib.suppress(BlockingIOError):
                            os.read(woken, 512)
                    else:
                        selector.unregister(key.fd)
                        self._ended(key.data)
                self._roll_logs()
        self._stop_children()
        lock.release()
        return 0

    def _stop(self, number: int, _frame: object) -> None:
        self._log(f"stopping: {signal.Signals(number).name}")
        self._stopping = True

    def _adopt(self, child: _Child, selector: selectors.BaseSelector) -> None:
        running = find(
            read_pid(pid_file(self._state_directory, child.service)), child.service.marker(self._state_directory)
        )
        if running is not None:
            self._log(f"{child.service.name}: adopted process {running.pid}")
            self._watch(child, running, selector)

    def _watch(self, child: _Child, running: Running, selector: selectors.BaseSelector) -> None:
        child.running = running
        child.started = self._clock()
        child.facts.pid = running.pid
        child.facts.since = datetime.now(UTC).isoformat(timespec="seconds")
        selector.register(running.handle, selectors.EVENT_READ, child)
        self._tell()

    def _roll_logs(self) -> None:
        for name in (*(child.service.name for child in self._children), "supervisor"):
            roll_log(self._state_directory.log(name))

    def _start_what_is_due(self, selector: selectors.BaseSelector) -> float:
        """Start each service whose pause is over; answer the seconds until the next one's is, infinite when all run."""
        waits = []
        for child in self._children:
            if child.running is None:
                wait = child.start_at - self._clock()
                if wait <= 0:
                    self._start(child, selector)
                else:
                    waits.append(wait)
        return min(waits, default=math.inf)

    def _start(self, child: _Child, selector: selectors.BaseSelector) -> None:
        service = child.service
        log = self._state_directory.log(service.name)
        roll_log(log)
        with log.open("ab") as output:
            # S603: the arguments are ours. A session of its own: Ctrl-C in the terminal of `keyreeve up` is not for it.
            child.program = subprocess.Popen(  # noqa: S603
                [
                    "/bin/sh",
                    "-c",
                    _BECOME,
                    "sh",
                    pid_file(self._state_directory, service),
                    *service.arguments(self._state_directory),
                ],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                cwd=self._state_directory.root,
            )
        self._log(f"{service.name}: started process {child.program.pid}")
        self._watch(child, Running(child.program.pid, os.pidfd_open(child.program.pid)), selector)

    def _ended(self, child: _Child) -> None:
        assert child.running is not None
        child.running.close()
        child.running = None
        end = "it had been adopted, so its exit code is not known"
        if child.program is not None:
            code = child.program.wait()
            end = f"exit code {code}" if code >= 0 else f"killed by {signal.Signals(-code).name}"
            child.program = None
        lived = self._clock() - child.started
        child.pause = FIRST_PAUSE if lived >= HEALTHY_AFTER else child.pause
        child.start_at = self._clock() + child.pause
        self._log(f"{child.service.name}: ended after {lived:.1f} s ({end}); starting again in {child.pause:g} s")
        child.pause = min(child.pause * 2, LONGEST_PAUSE)
        child.facts.pid = None
        child.facts.restarts += 1
        child.facts.last_end = end
        self._tell()

    def _stop_children(self) -> None:
        live = [(child, child.running) for child in self._children if child.running is not None]
        for _, running in live:
            running.stop()
        until = self._clock() + DRAIN_SECONDS
        for child, running in live:
            if not running.wait(max(until - self._clock(), 0.0)):
                self._log(f"{child.service.name}: still running after {DRAIN_SECONDS:g} s, killed")
                running.stop(signal.SIGKILL)
                running.wait(5.0)
            if child.program is not None:
                child.program.wait()
            running.close()
            pid_file(self._state_directory, child.service).unlink(missing_ok=True)
        facts_file(self._state_directory).unlink(missing_ok=True)
        self._log("stopped")

    def _tell(self) -> None:
        told = {child.service.name: asdict(child.facts) for child in self._children}
        write_file(facts_file(self._state_directory), json.dumps(told, indent=1).encode())

    @staticmethod
    def _log(line: str) -> None:
        print(datetime.now(UTC).isoformat(timespec="milliseconds"), line, flush=True)  # noqa: T201


def roll_log(log: Path) -> None:
    """Put aside what a log holds that has grown large; one older log is kept.

    Its writers go on with the same file, which they opened to append. So it is copied and emptied, and what they write
    between the two is lost. Where there is no room for the copy, the log stays.
    """
    with contextlib.suppress(OSError):
        if log.stat().st_size > LARGEST_LOG:
            shutil.copyfile(log, log.with_suffix(".log.1"))
            os.truncate(log, 0)


def launch(state_directory: StateDirectory) -> subprocess.Popen[bytes]:
    """Start the supervisor of a home in the background, in a session of its own."""
    log = state_directory.log("supervisor")
    roll_log(log)
    with log.open("ab") as output:
        return subprocess.Popen(  # noqa: S603 (our own interpreter and module)
            [sys.executable, "-P", "-m", "keyreeve.cli.supervisor", str(state_directory.root)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            cwd=state_directory.root,
        )


if __name__ == "__main__":
    sys.exit(Supervisor(StateDirectory(Path(sys.argv[1]))).run())
