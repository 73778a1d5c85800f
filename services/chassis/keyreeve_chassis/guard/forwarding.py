"""Slow mutations. On SQLite a worker checks the call and hands it whole to the coordinator, with who is calling."""

import asyncio
import time
from typing import Any

from keyreeve.identity import Caller, Role, SpiffeId
from keyreeve_ca.ledger.remote import forward
from keyreeve_chassis.audit.trail import CallRecord, Trail
from keyreeve_chassis.guard.call import Call, TlsFacts
from keyreeve_chassis.guard.router import Router
from keyreeve_chassis.processes.ipc import Client

_LONGEST = 60.0


async def forward_call(client: Client, method: str, request: bytes, call: Call) -> bytes:
    """A `router.Forward`: the worker's side."""
    assert call.caller is not None, "no forwarded method is open to anyone"
    remaining = call.remaining()
    caller = {
        "id": str(call.caller.id),
        "role": call.caller.role.value,
        "serial": call.caller.serial.to_bytes(20, "big"),  # msgpack has no integers of this size
        "person_uid": call.caller.person_uid,
        "request_id": call.request_id,
        "peer": call.peer,
        "tls": (call.tls.version, call.tls.session_reused),
    }

    async def run() -> bytes:
        recorded, response = await forward(
            client, method, request, caller, _LONGEST if remaining is None else remaining
        )
        if not recorded and call.record is not None:
            call.record.release()
        return response

    answered = asyncio.ensure_future(run())
    if call.record is not None:
        call.record.entrust(answered)
    # The coordinator goes on when the caller goes away, and only its answer says whether the call has left its record.
    return await asyncio.shield(answered)


async def answer_here(router: Router, method: str, request: bytes, call: Call) -> bytes:
    """A `router.Forward` for a worker that may write: it runs the mutation itself."""
    return await router.invoke(method, request, call)


async def answer_forwarded(
    router: Router, method: str, request: bytes, caller: dict[str, Any], seconds: float, *, trail: Trail
) -> tuple[bool, bytes]:
    """The coordinator's side: the same method, run here for the same caller.

    Answers whether the call has left its audit record, and the response.
    """
    serial = int.from_bytes(caller["serial"], "big")
    who = Caller(SpiffeId.parse(caller["id"]), Role(caller["role"]), serial, caller["person_uid"])
    deadline = time.monotonic() + seconds
    call = Call(
        method,
        who,
        deadline=deadline,
        peer=caller["peer"],
        tls=TlsFacts(*caller["tls"]),
        request_id=caller["request_id"],
    )
    record = call.record = CallRecord(trail, call, router.method(method).targets)
    response = await router.invoke(method, request, call)
    return await record.written_elsewhere(), response
