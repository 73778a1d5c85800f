"""Translation between messages and values of operations."""

from datetime import UTC

from keyreeve import operation_values as values
from keyreeve.operations.v1 import operation_service_pb2 as pb
from keyreeve.wire_fields import from_number

OPERATION_STATES = {
    values.OperationState.RUNNING: pb.OPERATION_STATE_RUNNING,
    values.OperationState.SUCCEEDED: pb.OPERATION_STATE_SUCCEEDED,
    values.OperationState.FAILED: pb.OPERATION_STATE_FAILED,
    values.OperationState.CANCELLED: pb.OPERATION_STATE_CANCELLED,
}


def from_operation(message: pb.Operation) -> values.Operation:
    """Translate an operation."""
    return values.Operation(
        name=message.name,
        method=message.method,
        creator=message.creator,
        state=from_number(OPERATION_STATES, message.state),
        phase=message.phase,
        done=message.done,
        total=message.total,
        created_at=message.create_time.ToDatetime(UTC),
        updated_at=message.update_time.ToDatetime(UTC),
        ended_at=message.end_time.ToDatetime(UTC) if message.HasField("end_time") else None,
        cancel_requested=message.cancel_requested,
        error_reason=message.error_reason,
        error_message=message.error_message,
        waiting=tuple(
            values.Waiting(one.resource, one.reason, one.start_time.ToDatetime(UTC)) for one in message.waiting
        ),
    )
