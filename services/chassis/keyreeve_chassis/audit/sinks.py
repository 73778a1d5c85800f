"""Sinks: copies of the audit log outside of the database, which the database administrator cannot change.

Where they are is said by the settings alone. A sink is fed checkpoint by checkpoint from the log itself and knows by itself
how far it has come, so an outage leaves no gap: what is missing is sent when it is back. Each write has a thread of its
own and a time limit; a file that was deleted or replaced under its descriptor counts as an outage.
"""

import json
import os
import queue
import socket
import stat
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path
from typing import Any, Protocol

from keyreeve.audit import exports
from keyreeve.audit.log import Checkpoint, digest
from keyreeve.audit.verifying import Segment
from keyreeve.files import PRIVATE, write_atomically

_TAIL_BYTES = 8 * 1024 * 1024
_SYSLOG_PRIORITY = 13 * 8 + 5
"""Facility `log audit`, severity `notice` (RFC 5424, 6.2.1)."""

NEWEST = -1
"""Position of a sink that is given the newest checkpoint first."""


class SinkFailed(Exception):
    """The sink does not accept data; the message says why."""


class Sink(Protocol):
    """One external copy. Calls block and come from one thread."""

    name: str

    def reached(self) -> int:
        """The number of the last checkpoint that it has, or `NEWEST`. Raises `SinkFailed`, also when it could not be written to."""
        ...

    def send(self, segments: Sequence[Segment], spki: bytes) -> None:
        """Give it the next checkpoints; durable when this returns. Raises `SinkFailed`."""
        ...


@dataclass
class FileSink:
    """The whole log, as `keyreeve audit export` writes it, appended to a file; `audit verify --file` reads it.

    Rotate it by moving it away and making an empty file of mode 0600: it goes on there.
    """

    path: Path
    name: str = "file"
    _descriptor: int | None = None
    _known: int = 0
    _size: int = 0

    def reached(self) -> int:
        """See `Sink.reached`."""
        try:
            if self._descriptor is None:
                self._open(resume=0)
            elif not self._is_still_there(self._descriptor):
                # Moved away: what it holds is kept somewhere. Deleted: it is lost, and everything is written again.
                resume = self._known if os.fstat(self._descriptor).st_nlink else 0
                if not self.path.exists():
                    raise SinkFailed(f"{self.path} was deleted or moved: make an empty file there, of mode 0600")
                self._close()
                self._open(resume)
            else:
                self._refuse_altered(self._descriptor)
        except OSError as wrong:
            raise SinkFailed(f"{self.path}: {wrong.strerror or wrong}") from wrong
        return self._known

    def send(self, segments: Sequence[Segment], spki: bytes) -> None:
        """See `Sink.send`."""
        self.reached()
        assert self._descriptor is not None
        text = StringIO()
        if self._known == 0:
            exports.write((), spki, text)
        exports.write_segments(segments, text)
        data = memoryview(text.getvalue().encode())
        began = os.fstat(self._descriptor).st_size
        try:
            while data:
                data = data[os.write(self._descriptor, data) :]
            os.fsync(self._descriptor)
        except OSError as wrong:
            self._cut(began)
            raise SinkFailed(f"{self.path}: {wrong.strerror or wrong}") from wrong
        self._known = Checkpoint.decode(segments[-1].body).k
        self._size = os.fstat(self._descriptor).st_size

    def _refuse_altered(self, descriptor: int) -> None:
        """Raise `SinkFailed` when others may write the file, or when it was truncated: what is missing is written again."""
        status = os.fstat(descriptor)
        if status.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            mode = stat.S_IMODE(status.st_mode)
            raise SinkFailed(f"{self.path} can be read or written by other users (mode {mode:04o}): chmod 600")
        if status.st_size < self._size:
            was, self._size = self._size, 0
            self._close()
            raise SinkFailed(
                f"{self.path} was truncated from {was} to {status.st_size} bytes; the rest is written again"
            )

    def _open(self, resume: int) -> None:
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(self.path, flags, PRIVATE)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise SinkFailed(f"{self.path} is no plain file")
        self._descriptor = descriptor
        self._size = os.fstat(descriptor).st_size
        self._known = self._last_checkpoint(descriptor) if os.fstat(descriptor).st_size else resume

    def _last_checkpoint(self, descriptor: int) -> int:
        """The last complete checkpoint in the file; a partial one after it is removed."""
        size = os.fstat(descriptor).st_size
        start = max(0, size - _TAIL_BYTES)
        tail = os.pread(descriptor, size - start, start)
        end = len(tail)
        while (end := tail.rfind(b"\n", 0, end)) >= 0:
            line = tail[tail.rfind(b"\n", 0, end) + 1 : end]
            if line.startswith(b'{"checkpoint"'):
                os.ftruncate(descriptor, start + end + 1)
                return int(json.loads(line)["checkpoint"]["k"])
        if start == 0:
            os.ftruncate(descriptor, 0)
            return 0
        raise SinkFailed(f"{self.path} holds something else than an audit log")

    def _cut(self, size: int) -> None:
        """Undo a partial write."""
        try:
            if self._descriptor is not None:
                os.ftruncate(self._descriptor, size)
        except OSError:
            self._close()  # it is read again, and cut behind its last checkpoint, when it is next opened

    def _is_still_there(self, descriptor: int) -> bool:
        ours = os.fstat(descriptor)
        try:
            there = self.path.stat(follow_symlinks=False)
        except FileNotFoundError:
            return False
        return (ours.st_dev, ours.st_ino) == (there.st_dev, there.st_ino)

    def _close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


@dataclass
class SyslogSink:
    """Each checkpoint as one message of RFC 5424 to a local socket: number, size, root, hash and signature, no records."""

    address: Path
    state: Path
    """Where the number of the last one that was sent is kept."""
    name: str = "syslog"
    application: str = "keyreeve"
    seconds: float = 1.0
    """How long the other side may take for one message."""
    now: Callable[[], datetime] = lambda: datetime.now(UTC)

    def reached(self) -> int:
        """See `Sink.reached`."""
        try:
            self._connected().close()
            return int(self.state.read_text())
        except FileNotFoundError:
            return 0 if self.address.exists() else self._missing()
        except (OSError, ValueError) as wrong:
            raise SinkFailed(f"{self.address}: {wrong}") from wrong

    def send(self, segments: Sequence[Segment], spki: bytes) -> None:  # noqa: ARG002  # the key is no news
        """See `Sink.send`."""
        sent = None
        try:
            try:
                with self._connected() as connection:
                    for segment in segments:
                        connection.send(self._message(segment))
                        sent = segment
            finally:
                # The kernel holds ten messages (net.unix.max_dgram_qlen): after an outage a reader that is slow takes what
                # is missing in several turns, and each must go on where the one before it ended.
                if sent is not None:
                    write_atomically(self.state, str(Checkpoint.decode(sent.body).k).encode(), PRIVATE)
        except OSError as wrong:
            raise SinkFailed(f"{self.address}: {wrong.strerror or wrong}") from wrong

    def _missing(self) -> int:
        raise SinkFailed(f"there is no socket {self.address}")

    def _connected(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        connection.settimeout(self.seconds)
        try:
            connection.connect(str(self.address))
        except OSError:
            connection.close()
            raise
        return connection

    def _message(self, segment: Segment) -> bytes:
        when = self.now().isoformat(timespec="milliseconds")
        head = (
            f"<{_SYSLOG_PRIORITY}>1 {when} {socket.gethostname()} {self.application} {os.getpid()} audit-checkpoint -"
        )
        return f"{head} {json.dumps(_told(segment))}".encode()


@dataclass
class StandardOutputSink:
    """Each checkpoint as one line of JSON on standard output, from the newest at the start on.

    It begins anew in every process: a checkpoint covers the whole log before it, so that the newest is enough of a witness.
    """

    descriptor: int = 1
    name: str = "stdout"
    _reached: int = NEWEST

    def reached(self) -> int:
        """See `Sink.reached`."""
        return self._reached

    def send(self, segments: Sequence[Segment], spki: bytes) -> None:  # noqa: ARG002  # the key is no news
        """See `Sink.send`."""
        try:
            for segment in segments:
                data = memoryview(f"{json.dumps({'audit_checkpoint': _told(segment)})}\n".encode())
                while data:
                    data = data[os.write(self.descriptor, data) :]
                self._reached = Checkpoint.decode(segment.body).k
        except OSError as wrong:
            raise SinkFailed(f"standard output: {wrong.strerror or wrong}") from wrong


def _told(segment: Segment) -> dict[str, Any]:
    """A checkpoint without its records: number, size, root, hash and signature."""
    checkpoint = Checkpoint.decode(segment.body)
    return {
        "k": checkpoint.k,
        "size": checkpoint.size,
        "root": checkpoint.root.hex(),
        "digest": digest(segment.body).hex(),
        "signature": segment.signature.hex(),
    }


@dataclass
class Feeder:
    """One sink with its thread and its health."""

    sink: Sink
    seconds: float = 0.8
    """How long it may take for one turn; beyond it the sink counts as hung."""
    patience: float = 1.2
    """How long it may be without a good turn before it counts as failed."""
    clock: Callable[[], float] = time.monotonic
    why: str = "it has not been reached yet"
    """The problem of the last turn; empty after a good one."""
    sent: bool = False
    """Whether something was sent in the last good turn: there may be more."""
    position: int = -1
    """The last checkpoint that the sink had after the last good turn."""
    _good: float = field(default=float("-inf"))
    _turns: "queue.SimpleQueue[Callable[[], None]]" = field(default_factory=queue.SimpleQueue)
    _thread: threading.Thread | None = None

    def problem(self) -> str | None:
        """The sink's problem, once it has lasted longer than `patience`."""
        if self.clock() - self._good <= self.patience:
            return None
        return f"the {self.sink.name} sink: {self.why}"

    def turn(self, fetch: Callable[[int], tuple[Sequence[Segment], bytes]], ended: Callable[[], None]) -> None:
        """Start a turn: read the sink's position and send what `fetch` has after it.

        `ended` is called in the sink's thread.
        """

        def run() -> None:
            try:
                position = self.sink.reached()
                segments, spki = fetch(position)
                if segments:
                    self.sink.send(segments, spki)
                    position = Checkpoint.decode(segments[-1].body).k
                self.position, self.sent = position, bool(segments)
                self._good = self.clock()
                self.why = ""
            except Exception as failed:  # noqa: BLE001  # whatever it is, the sink has not taken it
                self.why = str(failed) or repr(failed)
            finally:
                ended()

        if self._thread is None:
            # A thread that hangs in a write must not keep the process from ending.
            self._thread = threading.Thread(target=self._run, name=f"audit-{self.sink.name}", daemon=True)
            self._thread.start()
        self._turns.put(run)

    def hang(self) -> None:
        """Record that a turn has taken too long."""
        self.why = f"it has not answered within {self.seconds:g} s"

    def _run(self) -> None:
        while True:
            self._turns.get()()
