"""Even spreading of the connections of one listener over worker processes.

The kernel chooses among the listening sockets of a port by a hash: 8 connections often fall 6 to 2 on two workers. So
each worker tells the others how many connections it has, and one that accepts a connection while another has fewer
hands its file descriptor over, in a datagram on a Unix socket (unix(7), SCM_RIGHTS).
"""

import array
import asyncio
import os
import secrets
import socket
import struct
from collections.abc import Callable
from enum import IntEnum
from pathlib import Path

import structlog

_MESSAGE = struct.Struct("!BI")
_DESCRIPTOR_BYTES = array.array("i").itemsize
_MOST_PER_TURN = 64
_UNKNOWN = 2**32 - 1
"""Connections of a worker that has not told: nothing is handed to it."""

_log = structlog.get_logger(__name__)


class _Kind(IntEnum):
    """What a datagram says; each carries the sender's number of connections."""

    JOINED = 1
    COUNT = 2
    CONNECTION = 3
    LEFT = 4


class Spreading:
    """The workers of one listener as one of them sees them."""

    def __init__(self, directory: Path, listener: str, adopt: Callable[[socket.socket], None]) -> None:
        """Join those whose sockets are in `directory`, for one listener by name; `adopt` serves a connection here.

        Only this user may be able to enter the directory: who can send to the sockets is served like a client.
        Raises `OSError` when the directory cannot be used.
        """
        self._adopt = adopt
        self._path = directory / f"{listener}-{secrets.token_hex(4)}"
        self._others: dict[str, int] = {}
        """Their connections, as last told, with those handed to them since."""
        self._count = 0
        self.untold = False
        """Whether another worker's queue was full: `tell` again soon."""
        self._loop = asyncio.get_running_loop()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            self._socket.setblocking(False)
            others = [str(path) for path in directory.glob(f"{listener}-*")]
            self._socket.bind(str(self._path))
            self._path.chmod(0o600)
            for other in others:
                self._join(other)
        except BaseException:
            self._socket.close()
            self._path.unlink(missing_ok=True)
            raise
        self._closed = False
        self._loop.add_reader(self._socket, self._receive)

    def _join(self, other: str) -> None:
        try:
            if not self._send(other, _Kind.JOINED):
                Path(other).unlink(missing_ok=True)  # of a process that was killed
        except BlockingIOError:
            self._others[other] = _UNKNOWN
            self.untold = True

    def place(self, accepted: socket.socket, here: Callable[[], int]) -> bool:
        """Hand a connection to the worker that has the fewest, when that is below `here()`; False: serve it here."""
        self._receive()  # what has happened since the last turn of the loop
        while self._others:
            other = min(self._others, key=self._others.__getitem__)
            if self._others[other] >= here():
                return False
            try:
                sent = self._send(other, _Kind.CONNECTION, accepted.fileno())
            except BlockingIOError:
                return False  # it does not come round to its queue
            if sent:
                self._others[other] += 1
                accepted.close()
                return True
        return False

    def tell(self, count: int) -> None:
        """Tell the others how many connections there are here."""
        self._count = count
        self._tell(_Kind.COUNT)

    def _tell(self, kind: _Kind) -> None:
        self.untold = False
        for other, count in list(self._others.items()):
            try:
                self._send(other, _Kind.JOINED if kind is _Kind.COUNT and count == _UNKNOWN else kind)
            except BlockingIOError:
                self.untold = True

    def leave(self) -> None:
        """Ask the others to hand nothing over any more; what they have sent still arrives until `close`."""
        self._tell(_Kind.LEFT)

    def close(self) -> None:
        """Take what has been handed over, and end."""
        if not self._closed:
            self._closed = True
            self._path.unlink(missing_ok=True)
            self._loop.remove_reader(self._socket)
            self._receive()
            self._others.clear()
            self._socket.close()

    def _send(self, other: str, kind: _Kind, descriptor: int | None = None) -> bool:
        """Send a datagram; False: that worker is gone. Raises `BlockingIOError`."""
        rights = [] if descriptor is None else [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [descriptor]))]
        try:
            self._socket.sendmsg([_MESSAGE.pack(kind, self._count)], rights, 0, other)
        except (ConnectionRefusedError, FileNotFoundError):
            self._others.pop(other, None)
            return False
        return True

    def _receive(self) -> None:
        for _ in range(_MOST_PER_TURN):
            try:
                said, rights, _, sender = self._socket.recvmsg(
                    _MESSAGE.size, socket.CMSG_SPACE(_DESCRIPTOR_BYTES), socket.MSG_CMSG_CLOEXEC
                )
            except (BlockingIOError, InterruptedError):
                return
            descriptors = array.array("i")
            for level, kind, content in rights:
                if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                    descriptors.frombytes(content[: len(content) - len(content) % _DESCRIPTOR_BYTES])
            if len(said) != _MESSAGE.size or not sender:
                for descriptor in descriptors:
                    os.close(descriptor)
                continue
            kind, count = _MESSAGE.unpack(said)
            self._take_in(sender, kind, count, descriptors)

    def _take_in(self, sender: str, kind: int, count: int, descriptors: "array.array[int]") -> None:
        if kind == _Kind.LEFT:
            self._others.pop(sender, None)
        else:
            if sender not in self._others:
                _log.debug("another worker shares this listener", worker=sender)
            self._others[sender] = count
        if kind == _Kind.JOINED:
            try:
                self._send(sender, _Kind.COUNT)
            except BlockingIOError:
                self.untold = True
        for descriptor in descriptors:
            self._adopt(socket.socket(fileno=descriptor))
