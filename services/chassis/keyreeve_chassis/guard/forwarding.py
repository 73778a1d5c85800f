"""Forwarding of mutations: a worker that cannot write hands a checked call to the coordinator.

On SQLite one process writes. A worker has verified the caller and its access; the coordinator runs the same method for
the same caller and says whether the call has left its audit record.
"""

import asyncio
import itertools
import time
from collections.abc import AsyncIterable, AsyncIterator, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

from keyreeve.identity import Caller, Role, SpiffeId
from keyreeve_chassis.audit.trail import CallRecord, Trail
from keyreeve_chassis.guard.call import Call, TlsFacts
from keyreeve_chassis.guard.router import Router
from keyreeve_chassis.processes.ipc import Client, Connection, Handler

FORWARD = "forward"
"""Name of the coordinator's handler for unary calls; those for client streams begin with `forward_stream_`."""
_OPEN, _MESSAGE, _END, _CANCEL = (f"forward_stream_{step}" for step in ("open", "message", "end", "cancel"))
MOST_UNREAD = 16
"""Messages of one stream that wait for its handler; the next one waits in the worker."""
_LONGEST = 60.0
_SERIAL_BYTES = 20


@dataclass(frozen=True)
class CallForwarder:
    """The worker's side: a `router.Forward` over the coordinator's socket."""

    client: Client

    async def __call__(self, method: str, request: bytes, call: Call) -> bytes:
        """Forward the call. Raises what the use case raises, or `StoreUnavailable`."""
        remaining = call.remaining()
        seconds = _LONGEST if remaining is None else remaining

        async def run() -> bytes:
            payload = (method, request, _fields(call), seconds)
            return _answer(call, *await self.client.call(FORWARD, payload, seconds))

        return await _entrusted(call, run())

    async def stream(self, method: str, requests: AsyncIterable[bytes], call: Call) -> bytes:
        """A `router.ForwardStream`: the same for a client stream. A stream that breaks off changes nothing."""
        remaining = call.remaining()
        seconds = _LONGEST if remaining is None else remaining
        stream: int = await self.client.call(_OPEN, (method, _fields(call), seconds), seconds)
        try:
            async for request in requests:
                await self.client.call(_MESSAGE, (stream, request), seconds)
        except BaseException:
            cancelling = asyncio.ensure_future(self.client.call(_CANCEL, stream, _LONGEST))
            await asyncio.shield(asyncio.wait({cancelling}))
            raise

        async def end() -> bytes:
            return _answer(call, *await self.client.call(_END, stream, seconds))

        return await _entrusted(call, end())


@dataclass(frozen=True)
class ForwardedCalls:
    """The coordinator's side: an ipc handler that runs a forwarded call for the caller that the worker verified."""

    router: Router
    trail: Trail

    async def __call__(self, payload: Any, _connection: Connection) -> tuple[bool, bytes]:  # noqa: ANN401 - plain values
        """Return whether the call has left its audit record, and the serialized response."""
        method, request, fields, seconds = payload
        call = _call(method, fields, seconds)
        record = call.record = CallRecord(self.trail, call, self.router.method(method).targets)
        response = await self.router.invoke(method, request, call)
        return await record.written_elsewhere(), response


class ForwardedStreams:
    """The coordinator's side of client streams: ipc handlers that feed a handler of the router, message by message."""

    def __init__(self, router: Router, trail: Trail) -> None:
        """Take what runs the streams, and where their calls are recorded."""
        self._router = router
        self._trail = trail
        self._numbers = itertools.count(1)

    def handlers(self) -> dict[str, Handler]:
        """Handlers by name."""
        return {_OPEN: self._open, _MESSAGE: self._message, _END: self._end, _CANCEL: self._cancel}

    async def disconnected(self, connection: Connection) -> None:
        """End the streams of a worker that is gone: they change nothing."""
        for stream in list(_streams(connection).values()):
            await stream.cancel()

    async def _open(self, payload: Any, connection: Connection) -> int:  # noqa: ANN401 - plain values
        method, fields, seconds = payload
        call = _call(method, fields, seconds)
        call.record = CallRecord(self._trail, call, self._router.method(method).targets)
        number = next(self._numbers)
        _streams(connection)[number] = _Stream(self._router, method, call)
        return number

    async def _message(self, payload: Any, connection: Connection) -> None:  # noqa: ANN401 - plain values
        number, message = payload
        await _streams(connection)[number].put(message)

    async def _end(self, number: int, connection: Connection) -> tuple[bool, bytes]:
        stream = _streams(connection).pop(number)
        await stream.put(None)
        response = await stream.answer
        assert stream.call.record is not None, "it was made when the stream was opened"
        return await stream.call.record.written_elsewhere(), response

    async def _cancel(self, number: int, connection: Connection) -> None:
        stream = _streams(connection).pop(number, None)
        if stream is not None:
            await stream.cancel()


class _Stream:
    """One client stream: its messages on their way to the handler, and what the handler answers."""

    def __init__(self, router: Router, method: str, call: Call) -> None:
        self.call = call
        self._unread: asyncio.Queue[bytes | None] = asyncio.Queue(MOST_UNREAD)
        self.answer = asyncio.ensure_future(router.invoke_stream(method, self._requests(), call))

    async def put(self, message: bytes | None) -> None:
        """Hand on a message, or None for the end. Raises what the handler has ended with."""
        putting = asyncio.ensure_future(self._unread.put(message))
        await asyncio.wait({putting, self.answer}, return_when=asyncio.FIRST_COMPLETED)
        if not putting.done():
            putting.cancel()
            self.answer.result()

    async def cancel(self) -> None:
        """End the handler."""
        self.answer.cancel()
        await asyncio.wait({self.answer})

    async def _requests(self) -> AsyncIterator[bytes]:
        while (message := await self._unread.get()) is not None:
            yield message


def _streams(connection: Connection) -> dict[int, _Stream]:
    streams: dict[int, _Stream] = connection.state.setdefault("streams", {})
    return streams


async def _entrusted(call: Call, run: Coroutine[Any, Any, bytes]) -> bytes:
    """Run what the coordinator answers, and goes on with when the caller goes away.

    Only its answer says whether the call has left its record.
    """
    answered = asyncio.ensure_future(run)
    if call.record is not None:
        call.record.entrusted = answered
    return await asyncio.shield(answered)


def _answer(call: Call, recorded: bool, response: bytes) -> bytes:
    if not recorded and call.record is not None:
        call.record.entrusted = None
    return response


def _fields(call: Call) -> dict[str, Any]:
    assert call.caller is not None, "no forwarded method is open to anyone"
    return {
        "caller": _caller_fields(call.caller),
        "subject": None if call.subject is None else _caller_fields(call.subject),
        "session": call.session,
        "request_id": call.request_id,
        "peer": call.peer,
        "tls": (call.tls.version, call.tls.session_reused),
    }


def _caller_fields(caller: Caller) -> tuple[str, str, bytes, str, bytes]:
    serial = caller.serial.to_bytes(_SERIAL_BYTES, "big")  # msgpack has no integers of this size
    return str(caller.id), caller.role.value, serial, caller.person_uid, caller.spki_sha256


def _caller(fields: Sequence[Any]) -> Caller:
    spiffe_id, role, serial, person_uid, spki_sha256 = fields
    return Caller(SpiffeId.parse(spiffe_id), Role(role), int.from_bytes(serial, "big"), person_uid, spki_sha256)


def _call(method: str, fields: dict[str, Any], seconds: float) -> Call:
    subject = fields["subject"]
    return Call(
        method,
        _caller(fields["caller"]),
        subject=None if subject is None else _caller(subject),
        session=fields["session"],
        deadline=time.monotonic() + seconds,
        peer=fields["peer"],
        tls=TlsFacts(*fields["tls"]),
        request_id=fields["request_id"],
    )
