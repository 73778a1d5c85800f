"""Find, watch and stop processes by their id, safely against reuse of the id.

A process is ours when its command line in /proc contains a marker (the path of its settings file). From then on it is
referred to by a pidfd (Linux), which never refers to another process.
"""

import contextlib
import fcntl
import os
import select
import signal
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Running:
    """A running process of ours; `handle` is a pidfd that the caller closes."""

    pid: int
    handle: int

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Send a signal; it is no error when the process has ended."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.handle, number)

    def wait(self, seconds: float) -> bool:
        """Wait until the process has ended; say whether it has."""
        poll = select.poll()
        poll.register(self.handle, select.POLLIN)
        return bool(poll.poll(seconds * 1000))

    def close(self) -> None:
        os.close(self.handle)


def command_line(pid: int) -> str:
    """Return the arguments of a process, separated by spaces.

    Empty when it does not run or is a zombie.
    """
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def read_pid(file: Path) -> int | None:
    """Return the process id in a pid file, or None."""
    try:
        return int(file.read_text().strip() or "0") or None
    except (OSError, ValueError):
        return None


def find(pid: int | None, marker: str) -> Running | None:
    """Open the process `pid` if it runs and its command line contains `marker`."""
    if pid is None:
        return None
    try:
        handle = os.pidfd_open(pid)
    except OSError:
        return None
    # The pidfd is opened before the command line is read: of a process that ended in between it is empty.
    if marker in command_line(pid):
        return Running(pid, handle)
    os.close(handle)
    return None


class Lock:
    """An exclusive lock on a file that contains its owner's process id.

    The kernel frees it when the process ends.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._handle: int | None = None

    def take(self) -> bool:
        """Take the lock and write our process id; say whether it was free."""
        handle = os.open(self._file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        while True:
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            # It is taken, or another process shares it for a moment in `holder`.
            try:
                fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(handle)
                return False
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
        self._handle = handle
        return True

    def release(self) -> None:
        """Free the lock.

        The file stays, so that no process locks a file that has been replaced.
        """
        if self._handle is not None:
            os.ftruncate(self._handle, 0)
            os.close(self._handle)
            self._handle = None

    def holder(self) -> int | None:
        """Return the process id of the lock's owner, or None when it is free."""
        try:
            handle = os.open(self._file, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return read_pid(self._file)
        finally:
            os.close(handle)
        return None
