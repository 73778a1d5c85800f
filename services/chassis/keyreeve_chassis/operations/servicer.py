"""OperationService: access rules, and messages to reads of the records."""

import math
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from keyreeve import errors
from keyreeve.identity import OPERATOR_ROLES, SELF_ROLES, Caller, Role
from keyreeve.operations.v1 import operation_service_pb2 as pb
from keyreeve_chassis.database.ports import Store, Wait, polling
from keyreeve_chassis.guard.access import AccessRule, AccessRules, Freshness
from keyreeve_chassis.guard.call import Call, caller_of, id_of, timestamp
from keyreeve_chassis.guard.paging import Pages
from keyreeve_chassis.idempotency.mutation import Mutations
from keyreeve_chassis.operations.ports import Operation, OperationState, OperationTransaction

_SERVICE = "/keyreeve.operations.v1.OperationService/"
_LOOK_SECONDS = 0.25

ACCESS: AccessRules = {
    _SERVICE + "GetOperation": AccessRule(SELF_ROLES, freshness=Freshness.TOLERANT),
    _SERVICE + "ListOperations": AccessRule(SELF_ROLES, freshness=Freshness.TOLERANT),
    _SERVICE + "WatchOperation": AccessRule(
        SELF_ROLES, long_stream=True, freshness=Freshness.TOLERANT
    ).through_gateways,
    _SERVICE + "CancelOperation": AccessRule(SELF_ROLES, forwarded=True),
}
_STATES = {
    OperationState.RUNNING: pb.OPERATION_STATE_RUNNING,
    OperationState.SUCCEEDED: pb.OPERATION_STATE_SUCCEEDED,
    OperationState.FAILED: pb.OPERATION_STATE_FAILED,
    OperationState.CANCELLED: pb.OPERATION_STATE_CANCELLED,
}


def operation_message(operation: Operation) -> pb.Operation:
    """An operation as a message."""
    return pb.Operation(
        name=f"operations/{operation.operation_id}",
        method=operation.method,
        creator=operation.creator,
        state=_STATES[operation.state],
        phase=operation.phase,
        done=operation.done,
        total=operation.total,
        create_time=timestamp(operation.created_at),
        update_time=timestamp(operation.updated_at),
        end_time=timestamp(operation.ended_at),
        cancel_requested=operation.cancel_requested,
        error_reason=operation.error_reason,
        error_message=operation.error_message,
        waiting=[
            pb.Waiting(resource=one.resource, reason=one.reason, start_time=timestamp(one.since))
            for one in operation.waiting
        ],
    )


@dataclass(frozen=True)
class OperationServicer:
    """Serves OperationService."""

    store: Store[OperationTransaction]
    mutations: Mutations[OperationTransaction]
    pages: Pages
    follow: Callable[[], Wait] = lambda: polling(_LOOK_SECONDS)
    """Gives each stream what it waits for changes with."""

    async def GetOperation(self, request: pb.GetOperationRequest, call: Call) -> pb.Operation:
        return operation_message(await self._find(request.name, call))

    async def ListOperations(self, request: pb.ListOperationsRequest, call: Call) -> pb.ListOperationsResponse:
        caller = caller_of(call)
        creator = None if caller.role in OPERATOR_ROLES else str(caller)
        page = self.pages.open(call, request)
        rows = await self.store.read(lambda tx: tx.operations.page(creator, before=page.after, limit=page.size + 1))
        return pb.ListOperationsResponse(
            operations=[operation_message(one) for one in rows[: page.size]],
            next_page_token=page.next_token(rows[page.size - 1].operation_id if len(rows) > page.size else None),
        )

    async def WatchOperation(self, request: pb.WatchOperationRequest, call: Call) -> AsyncIterator[pb.Operation]:
        sent, wait = None, self.follow()
        while True:
            operation = await self._find(request.name, call)
            if operation != sent:
                sent = operation
                yield operation_message(operation)
            if operation.state is not OperationState.RUNNING:
                return
            await wait(math.inf)

    async def CancelOperation(self, request: pb.CancelOperationRequest, call: Call) -> pb.Operation:
        caller, operation_id = caller_of(call), id_of(request.name, "operations")

        def cancel(tx: OperationTransaction) -> pb.Operation:
            operation = tx.operations.get(operation_id)
            if operation is None or not (caller.role is Role.ADMIN or operation.creator == str(caller)):
                raise _not_found(request.name)
            if operation.state is OperationState.RUNNING:
                tx.operations.request_cancel(operation_id)
            return operation_message(tx.operations.get(operation_id) or operation)

        return await self.mutations(call, request, cancel)

    async def _find(self, name: str, call: Call) -> Operation:
        operation_id = id_of(name, "operations")
        operation = await self.store.read(lambda tx: tx.operations.get(operation_id))
        if operation is None or not _may_see(caller_of(call), operation):
            raise _not_found(name)
        return operation


def _may_see(caller: Caller, operation: Operation) -> bool:
    return caller.role in OPERATOR_ROLES or operation.creator == str(caller)


def _not_found(name: str) -> errors.KeyreeveError:
    return errors.OperationNotFound(f"there is no operation {name!r}", metadata={"operation": name})
