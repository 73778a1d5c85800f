"""Forwarding of mutations: a worker that may not write hands a checked call whole to the coordinator.

On SQLite one process writes. A worker has verified the caller and its access; the coordinator runs the same method for the
same caller and says whether the call has left its audit record.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from keyreeve.identity import Caller, Role, SpiffeId
from keyreeve_chassis.audit.trail import CallRecord, Trail
from keyreeve_chassis.guard.call import Call, TlsFacts
from keyreeve_chassis.guard.router import Router
from keyreeve_chassis.processes.ipc import Client, Connection

FORWARD = "forward"
"""Name of the coordinator's handler."""
_LONGEST = 60.0
_SERIAL_BYTES = 20


@dataclass(frozen=True)
class CallForwarder:
    """The worker's side: a `router.Forward` over the coordinator's socket."""

    client: Client

    async def __call__(self, method: str, request: bytes, call: Call) -> bytes:
        """Raises what the use case raises, or `StoreUnavailable`."""
        remaining = call.remaining()
        seconds = _LONGEST if remaining is None else remaining

        async def run() -> bytes:
            payload = (method, request, _fields(call), seconds)
            recorded, response = await self.client.call(FORWARD, payload, seconds)
            if not recorded and call.record is not None:
                call.record.release()
            return bytes(response)

        answered = asyncio.ensure_future(run())
        if call.record is not None:
            call.record.entrust(answered)
        # The coordinator goes on when the caller goes away, and only its answer says whether the call has left its record.
        return await asyncio.shield(answered)


@dataclass(frozen=True)
class ForwardedCalls:
    """The coordinator's side: an ipc handler that runs a forwarded call for the caller that the worker verified."""

    router: Router
    trail: Trail

    async def __call__(self, payload: Any, _connection: Connection) -> tuple[bool, bytes]:  # noqa: ANN401 - plain values
        """Answer whether the call has left its audit record, and the serialized response."""
        method, request, fields, seconds = payload
        call = _call(method, fields, seconds)
        record = call.record = CallRecord(self.trail, call, self.router.method(method).targets)
        response = await self.router.invoke(method, request, call)
        return await record.written_elsewhere(), response


def _fields(call: Call) -> dict[str, Any]:
    assert call.caller is not None, "no forwarded method is open to anyone"
    return {
        "caller": _caller_fields(call.caller),
        "subject": None if call.subject is None else _caller_fields(call.subject),
        "request_id": call.request_id,
        "peer": call.peer,
        "tls": (call.tls.version, call.tls.session_reused),
    }


def _caller_fields(caller: Caller) -> tuple[str, str, bytes, str]:
    serial = caller.serial.to_bytes(_SERIAL_BYTES, "big")  # msgpack has no integers of this size
    return str(caller.id), caller.role.value, serial, caller.person_uid


def _caller(fields: Sequence[Any]) -> Caller:
    spiffe_id, role, serial, person_uid = fields
    return Caller(SpiffeId.parse(spiffe_id), Role(role), int.from_bytes(serial, "big"), person_uid)


def _call(method: str, fields: dict[str, Any], seconds: float) -> Call:
    subject = fields["subject"]
    return Call(
        method,
        _caller(fields["caller"]),
        subject=None if subject is None else _caller(subject),
        deadline=time.monotonic() + seconds,
        peer=fields["peer"],
        tls=TlsFacts(*fields["tls"]),
        request_id=fields["request_id"],
    )
