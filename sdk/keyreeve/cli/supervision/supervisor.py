"""The supervisor of `keyreeve up`: starts, restarts and stops the services.

One supervisor per state directory: it holds a lock for as long as it lives. Services outlive it: when it is killed they
go on, and the next supervisor adopts them. A service's process id is written before its program begins (a shell writes
it, and then becomes the program), so that no running service is unknown.

The CA starts first. Each other service begins with `service_launcher`, which waits until the CA serves and gets an
enrollment token when the service needs one. On SIGTERM the other services stop first, so that they can still call the CA.
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

from keyreeve.cli.supervision.local_services import SERVICES, Service, ca_of
from keyreeve.cli.supervision.processes import Lock, Running, find, read_pid
from keyreeve.cli.supervision.state_directory import StateDirectory, write_file
from keyreeve.files import PRIVATE, write_atomically

FIRST_PAUSE = 0.2
LONGEST_PAUSE = 10.0
HEALTHY_AFTER = 30.0
"""Seconds that a service has to live for the pause after its next end to be the first one again."""
DRAIN_SECONDS = 30.0
LARGEST_LOG = 10_000_000
START_LINES = 64 * 1024
"""Bytes of a log from the last start of its service on, which outlive what is written later."""
LOG_CHECK_SECONDS = 10.0
"""Between checks of how large the logs have grown."""
REFUSED = 75
"""Exit code of a supervisor that found another one on its state directory (EX_TEMPFAIL of sysexits.h)."""

WILL_NOT_START = "exit code 78"
"""How a service ends whose settings or database do not allow a start (EX_CONFIG): the next attempt ends the same way."""

_WRITE_PID_AND_RUN = 'echo $$ > "$1" && shift && exec "$@"'


def lock_file(state_directory: StateDirectory) -> Path:
    """The lock file of a state directory's supervisor, with its process id."""
    return state_directory.runtime / "supervisor.lock"


def pid_file(state_directory: StateDirectory, service: Service) -> Path:
    """The file that holds the process id of a service's manager process."""
    return state_directory.runtime / f"{service.name}.pid"


def records_file(state_directory: StateDirectory) -> Path:
    """The file in which the supervisor keeps a `ServiceRecord` of each service."""
    return state_directory.runtime / "services.json"


@dataclass(slots=True)
class ServiceRecord:
    """What the supervisor knows of one service, for `keyreeve status`."""

    pid: int | None = None
    since: str = ""
    restarts: int = 0
    last_end: str = ""


class _Child:
    """One service under supervision."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.record = ServiceRecord()
        self.running: Running | None = None
        self.program: subprocess.Popen[bytes] | None = None
        self.started = 0.0
        self.log_begins: int | None = 0
        """Where its log had ended when it started; None: its first lines have been set aside."""
        self.pause = FIRST_PAUSE
        self.start_at = 0.0


class Supervisor:
    """Keeps the services of a state directory running until SIGTERM.

    `clock` counts seconds from anywhere.
    """

    def __init__(
        self,
        state_directory: StateDirectory,
        services: Sequence[Service] = SERVICES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._state_directory = state_directory
        self._services = tuple(services)
        self._clock = clock
        self._children = [_Child(service) for service in services]
        self._stopping = False

    def run(self) -> int:
        """Supervise until SIGTERM or SIGINT; return the exit code of the process."""
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
                for key, _ in selector.select(min(self._start_due(selector), LOG_CHECK_SECONDS)):
                    if key.fd == woken:
                        with contextlib.suppress(BlockingIOError):
                            os.read(woken, 512)
                    else:
                        selector.unregister(key.fd)
                        self._ended(key.data)
                self._rotate_logs()
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
        child.record.pid = running.pid
        child.record.since = datetime.now(UTC).isoformat(timespec="seconds")
        selector.register(running.handle, selectors.EVENT_READ, child)
        self._write_records()

    def _rotate_logs(self) -> None:
        for child in self._children:
            if rotate_log(self._state_directory.log(child.service.name), child.log_begins):
                child.log_begins = None
        rotate_log(self._state_directory.log("supervisor"))

    def _start_due(self, selector: selectors.BaseSelector) -> float:
        """Start each service whose pause is over.

        Returns the seconds until the next one's is, infinite when all run.
        """
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
        rotate_log(log)
        with log.open("ab") as output:
            child.log_begins = output.tell()
            # S603: the arguments are ours. A session of its own: Ctrl-C in the terminal of `keyreeve up` is not for it.
            child.program = subprocess.Popen(  # noqa: S603
                [
                    "/bin/sh",
                    "-c",
                    _WRITE_PID_AND_RUN,
                    "sh",
                    pid_file(self._state_directory, service),
                    *start_command(self._state_directory, service, self._services),
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
        child.record.pid = None
        child.record.restarts += 1
        child.record.last_end = end
        self._write_records()

    def _stop_children(self) -> None:
        self._stop_together([child for child in self._children if not child.service.is_ca])
        self._stop_together([child for child in self._children if child.service.is_ca])
        records_file(self._state_directory).unlink(missing_ok=True)
        self._log("stopped")

    def _stop_together(self, children: Sequence[_Child]) -> None:
        live = [(child, child.running) for child in children if child.running is not None]
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
            self._log(f"{child.service.name}: stopped")
            pid_file(self._state_directory, child.service).unlink(missing_ok=True)

    def _write_records(self) -> None:
        records = {child.service.name: asdict(child.record) for child in self._children}
        write_file(records_file(self._state_directory), json.dumps(records, indent=1).encode())

    @staticmethod
    def _log(line: str) -> None:
        print(datetime.now(UTC).isoformat(timespec="milliseconds"), line, flush=True)  # noqa: T201


def start_command(state_directory: StateDirectory, service: Service, services: Sequence[Service]) -> list[str]:
    """Return the command that starts a service.

    It is the service's own program, behind `service_launcher` unless it is the CA.
    """
    program = service.arguments(state_directory)
    if service.is_ca:
        return program
    launcher = [sys.executable, "-P", "-m", "keyreeve.cli.supervision.service_launcher"]
    return [*launcher, str(state_directory.root), service.name, ca_of(services).module, *program]


def rotate_log(log: Path, begins: int | None = None) -> bool:
    """Set aside what a log holds when it has grown large; say whether it had. One older log is kept.

    Its writers go on with the same file, which they opened to append. So it is copied and emptied, and what they write
    between the two is lost. Where there is no space for the copy, the log stays. What the log has at `begins`, the first
    lines of a service since it started, is also copied to `NAME.log.start`: later lines must not push them out.
    """
    with contextlib.suppress(OSError):
        if log.stat().st_size > LARGEST_LOG:
            if begins is not None:
                with log.open("rb") as file:
                    file.seek(begins)
                    write_atomically(log.with_suffix(".log.start"), file.read(START_LINES), PRIVATE)
            shutil.copyfile(log, log.with_suffix(".log.1"))
            os.truncate(log, 0)
            return True
    return False


def launch(state_directory: StateDirectory, services: Sequence[Service] = SERVICES) -> subprocess.Popen[bytes]:
    """Start the supervisor of a state directory in the background."""
    log = state_directory.log("supervisor")
    rotate_log(log)
    table = json.dumps([asdict(service) for service in services])
    with log.open("ab") as output:
        return subprocess.Popen(  # noqa: S603 (our own interpreter and module)
            [sys.executable, "-P", "-m", "keyreeve.cli.supervision.supervisor", str(state_directory.root), table],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            cwd=state_directory.root,
        )


def main(directory: str, table: str) -> int:
    """Supervise the services that `table` lists, a JSON array of the fields of each."""
    return Supervisor(StateDirectory(Path(directory)), [Service(**fields) for fields in json.loads(table)]).run()


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
