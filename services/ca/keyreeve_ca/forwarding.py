"""Slow mutations. On SQLite a worker checks the call and hands it whole to the keeper, with who is calling."""

import time
from typing import Any

from keyreeve.identity import Caller, Role, SpiffeId
from keyreeve_ca.storage.remote import forward
from keyreeve_chassis.call import Call
from keyreeve_chassis.frames import Client
from keyreeve_chassis.router import Router

_LONGEST = 60.0


async def forward_call(client: Client, method: str, request: bytes, call: Call) -> bytes:
    """A `router.Forward`: the worker's side."""
    assert call.caller is not None, "no forwarded method is open to anyone"
    remaining = call.remaining()
    caller = {
        "id": str(call.caller.id),
        "role": call.caller.role.value,
        "serial": call.caller.serial.to_bytes(20, "big"),  # msgpack has no integers of this size
        "request_id": call.request_id,
    }
    return await forward(client, method, request, caller, _LONGEST if remaining is None else remaining)


async def answer_here(router: Router, method: str, request: bytes, call: Call) -> bytes:
    """A `router.Forward` for a worker that may write: it runs the mutation itself."""
    return await router.invoke(method, request, call)


async def answer_forwarded(
    router: Router, method: str, request: bytes, caller: dict[str, Any], seconds: float
) -> bytes:
    """The keeper's side: the same method, run here for the same caller."""
    who = Caller(SpiffeId.parse(caller["id"]), Role(caller["role"]), int.from_bytes(caller["serial"], "big"))
    deadline = time.monotonic() + seconds
    return await router.invoke(method, request, Call(method, who, deadline=deadline, request_id=caller["request_id"]))
