"""Operations: work that continues after the call that started it."""

from collections.abc import AsyncGenerator

from keyreeve._async.calls import Caller
from keyreeve.operation_values import Operation, OperationState
from keyreeve.operation_wire import from_operation
from keyreeve.operations.v1 import operation_service_pb2 as pb
from keyreeve.request_ids import new_request_id
from keyreeve.wire_fields import resource_name

_SERVICE = "/keyreeve.operations.v1.OperationService"


class OperationClient:
    """The operations of a service.

    Reached as `Client.operations` and `Client.service(name).operations`.

    Operations may be named in full (`operations/...`) or by their last part. Every method raises `keyreeve.errors` and
    takes a `timeout` in seconds over all its attempts.
    """

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    async def get(self, name: str, *, timeout: float | None = None) -> Operation:
        """Look up an operation."""
        request = pb.GetOperationRequest(name=resource_name("operations", name))
        method = f"{_SERVICE}/GetOperation"
        return from_operation(await self._caller.unary(method, request, pb.Operation, timeout))

    async def list(self, *, page_size: int = 100, timeout: float | None = None) -> AsyncGenerator[Operation, None]:
        """Iterate over the operations that the caller may see, newest first.

        `timeout` is for each page.
        """
        request = pb.ListOperationsRequest(page_size=page_size)
        while True:
            method = f"{_SERVICE}/ListOperations"
            page = await self._caller.unary(method, request, pb.ListOperationsResponse, timeout)
            for message in page.operations:
                yield from_operation(message)
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def watch(self, name: str) -> AsyncGenerator[Operation, None]:
        """Iterate over the states of an operation, after each change until it has ended.

        The stream is opened again when it breaks, and outages are waited out; only a failure before the first state, or one
        that is not transient, is raised.
        """
        request = pb.WatchOperationRequest(name=resource_name("operations", name))
        async for message in self._caller.follow(f"{_SERVICE}/WatchOperation", request, pb.Operation):
            operation = from_operation(message)
            yield operation
            if operation.state is not OperationState.RUNNING:
                return

    async def cancel(self, name: str, *, request_id: str | None = None, timeout: float | None = None) -> Operation:
        """Request that an operation stop early; what it has done stays."""
        request = pb.CancelOperationRequest(
            name=resource_name("operations", name), request_id=request_id or new_request_id()
        )
        method = f"{_SERVICE}/CancelOperation"
        return from_operation(await self._caller.unary(method, request, pb.Operation, timeout))
