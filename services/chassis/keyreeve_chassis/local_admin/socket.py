"""The service's side of the local admin socket; each call leaves an audit record.

The socket is of mode 0600 in a directory of mode 0700, and the kernel names the user on the other end.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keyreeve.errors import KeyreeveError
from keyreeve.identity import Caller
from keyreeve_chassis.audit.trail import CallRecord, Trail
from keyreeve_chassis.guard.call import Call
from keyreeve_chassis.processes import ipc
from keyreeve_chassis.processes.refusals import StartRefused

Act = Callable[[Any, CallRecord], Awaitable[object]]
"""What a call does: told its payload (plain values), and the record that it may add to.

One that changes something commits the record with it (`idempotency.mutation.committed_with`, `CallRecord.of_success`).
"""


@dataclass(frozen=True)
class RecordedHandlers:
    """Wraps handlers so that their calls are audited as the service's own."""

    trail: Trail
    caller: Caller

    def handler(self, name: str, act: Act) -> ipc.Handler:
        """Wrap one handler: it answers only once its audit record is on disk."""

        async def answer(payload: Any, connection: ipc.Connection) -> object:  # noqa: ANN401 - plain values
            call = Call(f"keyreeve/local-socket/{name}", self.caller, peer=f"unix:process {connection.peer_pid}")
            record = CallRecord(self.trail, call, lambda _message: ("", ()))
            try:
                result = await act(payload, record)
            except KeyreeveError as refused:
                await self.trail.failed(record, call, refused)
                raise
            await self.trail.succeeded(record)
            return result

        return answer


async def serve_local_admin(
    path: Path,
    handlers: Mapping[str, ipc.Handler],
    on_disconnect: Callable[[ipc.Connection], Awaitable[None]] | None = None,
) -> ipc.IpcServer:
    """Listen on the socket. Raises `StartRefused` when its directory belongs to another user."""
    try:
        return await ipc.serve(path, handlers, on_disconnect)
    except (PermissionError, ValueError) as refused:
        raise StartRefused(f"the local socket cannot be made: {refused}") from refused
