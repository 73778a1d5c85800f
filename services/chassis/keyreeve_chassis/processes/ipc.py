"""Calls between the processes of one service on one machine: msgpack in length-prefixed frames over a Unix socket.

A frame is a 4-byte big-endian length and a msgpack array: `[id, name, payload]` there, `[id, True, result]` or
`[id, False, error]` back. Calls are pipelined and may be answered in any order; ids match them. Payloads are plain values:
None, bool, int, float, str, bytes, and arrays (tuples on arrival) and maps of these. Only processes of the same user, or root, may
connect: the directory is 0700, the socket 0600, and the kernel names the peer's user (SO_PEERCRED, unix(7)).
"""

import asyncio
import logging
import os
import socket
import stat
import struct
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgpack

from keyreeve.errors import InternalError, KeyreeveError, ServiceStopping, StoreUnavailable, Violation, from_reason
from keyreeve_chassis.processes import failpoints

MAX_FRAME_BYTES = 16 * 1024 * 1024
MAX_IN_FLIGHT = 1024
"""Calls of one connection that are being answered; beyond it the server stops reading from it."""
_MAX_PATH_BYTES = 107  # sun_path of unix(7), without its final NUL
_LENGTH = struct.Struct(">I")
_UCRED = struct.Struct("3i")

Handler = Callable[[Any, "Connection"], Awaitable[Any]]

_log = logging.getLogger(__name__)


class Connection:
    """One client as the server sees it; `state` is for the handlers and lives as long as the connection."""

    def __init__(self, peer_pid: int) -> None:
        self.peer_pid = peer_pid
        self.state: dict[str, Any] = {}


class IpcServer:
    """A listening socket; made by `serve`."""

    def __init__(self, path: Path, server: asyncio.Server, connections: "set[_ServerSide]") -> None:
        self._path = path
        self._server = server
        self._connections = connections

    async def close(self) -> None:
        """Stop accepting, finish running calls, close the connections and remove the socket."""
        self._server.close()
        self._path.unlink(missing_ok=True)
        for side in list(self._connections):
            await side.drain()
        await self._server.wait_closed()


async def serve(
    path: Path,
    handlers: Mapping[str, Handler],
    on_disconnect: Callable[[Connection], Awaitable[None]] | None = None,
) -> IpcServer:
    """Serve a Unix socket at `path`; `on_disconnect` runs once when a client is gone.

    Raises `ValueError` for a path that is too long, `PermissionError` when other users own the socket's directory or
    can enter it.
    """
    _prepare_directory(path)
    connections: set[_ServerSide] = set()
    loop = asyncio.get_running_loop()
    listener = await loop.create_unix_server(
        lambda: _ServerSide(handlers, on_disconnect, connections), path=str(path), backlog=128
    )
    _close_to_others(path)
    return IpcServer(path, listener, connections)


def _allowed_users() -> frozenset[int]:
    return frozenset({0, os.geteuid()})


def _believed_users(path: Path) -> frozenset[int]:
    """Whose service a client talks to: root's, its own user's; for root, also that of the state directory's owner."""
    if os.geteuid() == 0 and path.parent.name == "run":
        return frozenset({0, path.parent.parent.stat().st_uid})
    return frozenset({0, os.geteuid()})


def refuse_foreign_socket(path: Path) -> None:
    """Raise `StoreUnavailable` when the socket or its directory is another user's, who would answer in the service's place."""
    believed = _believed_users(path)
    for place in (path.parent, path):
        status = place.lstat()
        if status.st_uid not in believed:
            raise StoreUnavailable(f"{place} belongs to another user (uid {status.st_uid}): nothing was sent there")
        if stat.S_IMODE(status.st_mode) & 0o022:
            raise StoreUnavailable(f"{place} can be written by other users: nothing was sent there")


def _refuse_foreign_peer(connected: socket.socket, path: Path) -> None:
    """Raise `StoreUnavailable` unless the process that listens is of the service's user (SO_PEERCRED)."""
    _, uid, _ = _UCRED.unpack(connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    if uid not in _believed_users(path):
        raise StoreUnavailable(f"a process of another user (uid {uid}) listens at {path}: nothing was sent to it")


def _prepare_directory(path: Path) -> None:
    if len(os.fsencode(path)) > _MAX_PATH_BYTES:
        raise ValueError(f"the socket path {path} is longer than {_MAX_PATH_BYTES} bytes: use a shorter directory")
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = path.parent.stat()
    if status.st_uid != os.geteuid():
        raise PermissionError(f"{path.parent} belongs to another user, who could replace what is in it: remove it")
    if stat.S_IMODE(status.st_mode) & 0o077:
        raise PermissionError(f"others may enter {path.parent}: run chmod 700 on it")


def _close_to_others(path: Path) -> None:
    path.chmod(0o600)


BEFORE_CALL = failpoints.register("ipc.call.before", "Another process is about to be asked for something.")
AFTER_CALL = failpoints.register("ipc.call.after", "Another process has answered, and the caller does not know yet.")


class Client:
    """A client that connects when first needed, and again after the connection is lost.

    Calls in progress then fail with `StoreUnavailable`: whether they were done is unknown.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._side: _ClientSide | None = None
        self._connecting = asyncio.Lock()

    async def call(self, name: str, payload: object, timeout: float) -> Any:  # noqa: ANN401, ASYNC109  # plain values
        """Return what the handler `name` returns, within `timeout` seconds.

        Raises what the handler raised if that is a `KeyreeveError`, `InternalError` for anything else it raised, and
        `StoreUnavailable` when there is no server, no answer, or no answer in time.
        """
        try:
            async with asyncio.timeout(timeout):
                side = self._side if self._side is not None and self._side.is_open else await self._connect()
                failpoints.hit(BEFORE_CALL)
                answer = await side.call(name, payload)
                failpoints.hit(AFTER_CALL)
                return answer
        except TimeoutError:
            raise StoreUnavailable(f"the coordinator did not answer {name} within {timeout:g} seconds") from None
        except OSError as error:
            raise StoreUnavailable(f"the coordinator cannot be reached: {error.strerror or error}") from error

    async def close(self) -> None:
        """Close the connection; calls in flight fail."""
        if self._side is not None:
            self._side.close()
            self._side = None

    async def _connect(self) -> "_ClientSide":
        async with self._connecting:
            if self._side is None or not self._side.is_open:
                loop = asyncio.get_running_loop()
                refuse_foreign_socket(self._path)
                transport, side = await loop.create_unix_connection(_ClientSide, str(self._path))
                try:
                    _refuse_foreign_peer(transport.get_extra_info("socket"), self._path)
                except StoreUnavailable:
                    transport.abort()
                    raise
                self._side = side
            return self._side


class _Framed(asyncio.Protocol):
    """Splits the byte stream into messages."""

    def __init__(self) -> None:
        self._received = bytearray()
        self._transport: asyncio.Transport | None = None

    @property
    def is_open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        received = self._received
        received += data
        at = 0
        while len(received) - at >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(received, at)
            if length > MAX_FRAME_BYTES:
                _log.error("a frame of %d bytes exceeds the limit of %d: closing", length, MAX_FRAME_BYTES)
                self.close()
                return
            end = at + _LENGTH.size + length
            if len(received) < end:
                break
            try:
                message = msgpack.unpackb(memoryview(received)[at + _LENGTH.size : end], use_list=False)
            except ValueError:  # msgpack's errors are ValueErrors
                _log.exception("a frame is not msgpack: closing")
                self.close()
                return
            at = end
            self.message_received(message)
        del received[:at]

    def message_received(self, message: Any) -> None:  # noqa: ANN401  # plain values
        raise NotImplementedError

    def send(self, message: object) -> None:
        packed = msgpack.packb(message)
        if len(packed) > MAX_FRAME_BYTES:
            raise ValueError(f"a message of {len(packed)} bytes exceeds the limit of {MAX_FRAME_BYTES}")
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(_LENGTH.pack(len(packed)) + packed)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


class _ClientSide(_Framed):
    def __init__(self) -> None:
        super().__init__()
        self._next_id = 0
        self._waiting: dict[int, asyncio.Future[Any]] = {}

    async def call(self, name: str, payload: object) -> Any:  # noqa: ANN401  # plain values
        self._next_id += 1
        number = self._next_id
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        try:
            self.send((number, name, payload))
            return await answer
        finally:
            self._waiting.pop(number, None)

    def message_received(self, message: Any) -> None:  # noqa: ANN401  # plain values
        number, succeeded, result = message
        answer = self._waiting.pop(number, None)
        if answer is None or answer.done():
            return  # the caller has given up
        if succeeded:
            answer.set_result(result)
        else:
            answer.set_exception(_error_from(result))

    def connection_lost(self, _error: Exception | None) -> None:
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(StoreUnavailable("the connection to the coordinator was lost before it answered"))
        self._waiting.clear()


class _ServerSide(_Framed):
    def __init__(
        self,
        handlers: Mapping[str, Handler],
        on_disconnect: Callable[[Connection], Awaitable[None]] | None,
        connections: "set[_ServerSide]",
    ) -> None:
        super().__init__()
        self._handlers = handlers
        self._on_disconnect = on_disconnect
        self._connections = connections
        self._tasks: set[asyncio.Task[None]] = set()
        self._connection: Connection | None = None
        self._draining = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        peer: socket.socket = transport.get_extra_info("socket")
        pid, uid, _ = _UCRED.unpack(peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
        if uid not in _allowed_users():
            _log.warning("refused process %d of user %d on the internal socket", pid, uid)
            self.close()
            return
        self._connection = Connection(pid)
        self._connections.add(self)

    def message_received(self, message: Any) -> None:  # noqa: ANN401  # plain values
        if self._connection is None:
            return
        number, name, payload = message
        task = asyncio.get_running_loop().create_task(self._answer(number, name, payload, self._connection))
        self._tasks.add(task)
        task.add_done_callback(self._finished)
        if len(self._tasks) >= MAX_IN_FLIGHT and self._transport is not None:
            self._transport.pause_reading()

    def _finished(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if self._transport is not None and not self._transport.is_closing() and not self._transport.is_reading():
            self._transport.resume_reading()

    async def _answer(self, number: int, name: str, payload: object, connection: Connection) -> None:
        try:
            self.send((number, True, await self._handler(name)(payload, connection)))
        except KeyreeveError as error:
            self.send((number, False, _error_values(error)))
        except Exception:  # noqa: BLE001  # a mistake in one handler must not end the others' connection
            _log.exception("the handler %s failed", name)
            self.send(
                (number, False, _error_values(InternalError("internal error; the coordinator's log has the details")))
            )

    def _handler(self, name: str) -> Handler:
        if self._draining:
            raise ServiceStopping("the coordinator is stopping")
        if name not in self._handlers:
            raise InternalError(f"the coordinator has no handler {name!r}: the processes are of different releases")
        return self._handlers[name]

    def connection_lost(self, _error: Exception | None) -> None:
        self._connections.discard(self)
        if self._connection is not None and self._on_disconnect is not None:
            gone = asyncio.get_running_loop().create_task(self._disconnected(self._connection, self._on_disconnect))
            self._tasks.add(gone)
            gone.add_done_callback(self._tasks.discard)

    async def _disconnected(
        self, connection: Connection, on_disconnect: Callable[[Connection], Awaitable[None]]
    ) -> None:
        # What it asked for first: only then is it known what it leaves behind.
        await asyncio.gather(*(t for t in self._tasks if t is not asyncio.current_task()), return_exceptions=True)
        try:
            await on_disconnect(connection)
        except Exception:  # noqa: BLE001  # no other task awaits this one
            _log.exception("cleaning up after process %d failed", connection.peer_pid)

    async def drain(self) -> None:
        """Answer running calls, refuse new ones, and close."""
        self._draining = True
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)
        self.close()


def _error_values(error: KeyreeveError) -> tuple[object, ...]:
    return (
        error.reason,
        error.message,
        error.metadata,
        [(v.field, v.description) for v in error.violations],
        None if error.retry_after is None else error.retry_after.total_seconds(),
    )


def _error_from(values: Any) -> KeyreeveError:  # noqa: ANN401  # plain values
    reason, message, metadata, violations, retry_after = values
    return from_reason(
        reason,
        message,
        violations=[Violation(*v) for v in violations],
        retry_after=None if retry_after is None else timedelta(seconds=retry_after),
        metadata=metadata,
    )
