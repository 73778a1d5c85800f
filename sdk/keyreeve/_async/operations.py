"""Work that outlasts a call: looked at, waited for, cancelled."""

from collections.abc import AsyncGenerator

from keyreeve import wire
from keyreeve._async.calls import Caller
from keyreeve.operation_values import Operation, OperationState
from keyreeve.operations.v1 import operation_service_pb2 as pb
from keyreeve.request_ids import new_request_id

_SERVICE = "/keyreeve.operations.v1.OperationService"


class OperationClient:
    """Work that goes on in the service after the call that began it; reached as `Client.operations`.

    Operations may be named in full (`operations/...`) or by their last part. Every method raises `keyreeve.errors` and
    takes a `timeout` in seconds over all its attempts.
    """

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    async def get(self, name: str, *, timeout: float | None = None) -> Operation:
        """An operation as it is now."""
        request = pb.GetOperationRequest(name=wire.resource_name("operations", name))
        method = f"{_SERVICE}/GetOperation"
        return wire.from_operation(await self._caller.unary(method, request, pb.Operation, timeout))

    async def list(self, *, page_size: int = 100, timeout: float | None = None) -> AsyncGenerator[Operation, None]:
        """The operations that the caller may see, the newest first; `timeout` is for each page."""
        request = pb.ListOperationsRequest(page_size=page_size)
        while True:
            method = f"{_SERVICE}/ListOperations"
            page = await self._caller.unary(method, request, pb.ListOperationsResponse, timeout)
            for message in page.operations:
                yield wire.from_operation(message)
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def watch(self, name: str) -> AsyncGenerator[Operation, None]:
        """An operation now and after each change, until it has ended.

        The stream behind it is opened again when it breaks, and outages are waited out; only a failure before the first
        answer, or one that waiting cannot cure, is raised.
        """
        request = pb.WatchOperationRequest(name=wire.resource_name("operations", name))
        async for message in self._caller.follow(f"{_SERVICE}/WatchOperation", request, pb.Operation):
            operation = wire.from_operation(message)
            yield operation
            if operation.state is not OperationState.RUNNING:
                return

    async def cancel(self, name: str, *, request_id: str | None = None, timeout: float | None = None) -> Operation:
        """Ask an operation to end before it is done; what it has done stays."""
        request = pb.CancelOperationRequest(
            name=wire.resource_name("operations", name), request_id=request_id or new_request_id()
        )
        method = f"{_SERVICE}/CancelOperation"
        return wire.from_operation(await self._caller.unary(method, request, pb.Operation, timeout))
