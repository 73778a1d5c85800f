"""The one place where an exception becomes a `google.rpc.Status`, and internal text is kept from callers.

A status carries exactly one ErrorInfo (domain, reason, metadata with the request id), a BadRequest or
PreconditionFailure with the violations, and a RetryInfo when waiting helps. It travels in trailing metadata, of which
clients accept 8 kB by default, so it is cut to a budget rather than lost.
"""

import asyncio
import errno
import re
from collections.abc import Sequence
from datetime import timedelta

import structlog
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2, status_pb2  # type: ignore[import-untyped]

from keyreeve.errors import (
    DOMAIN,
    DeadlinePassed,
    InternalError,
    InvalidArgument,
    KeyreeveError,
    ServiceStopping,
    StoreUnavailable,
    Violation,
)
from keyreeve_chassis.guard.call import Call

DETAILS_KEY = "grpc-status-details-bin"
MAX_STATUS_BYTES = 4096
MAX_MESSAGE_CHARACTERS = 800
MAX_VALUE_CHARACTERS = 300

_DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")

_log = structlog.get_logger(__name__)


def code_of(error: KeyreeveError) -> int:
    """The number of the gRPC status code of an error's class (google.rpc.Code)."""
    number: int = code_pb2.Code.Value(error.code)
    return number


def translate(failure: BaseException, call: Call) -> KeyreeveError:
    """Return what the caller is told: `failure` itself if it is a `KeyreeveError`, else an `InternalError`.

    Other exceptions are logged here with their traceback; the answer holds only the request id.
    """
    if isinstance(failure, KeyreeveError):
        return failure
    if isinstance(failure, TimeoutError) and _is_past(call):
        return deadline_passed(call)
    if isinstance(failure, OSError) and failure.errno in _DISK_FULL:
        _log.error("a disk is full", method=call.method, request_id=call.request_id, error=str(failure))
        return StoreUnavailable("a disk of the service is full; nothing is known to have happened")
    _log.error(
        "unexpected failure",
        method=call.method,
        caller=str(call.caller),
        request_id=call.request_id,
        exc_info=failure,
    )
    return InternalError(f"internal error, request id {call.request_id}")


def deadline_passed(call: Call) -> DeadlinePassed:
    """The error of a call whose deadline has passed."""
    return DeadlinePassed(f"the deadline of {call.method} passed before it was done")


def service_stopping() -> ServiceStopping:
    """The error of a call that comes while the service stops."""
    return ServiceStopping("the service is stopping", retry_after=timedelta(milliseconds=100))


def is_cancelled_by_caller() -> bool:
    """Whether the running task was cancelled, as against a `CancelledError` leaked by a handler."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def to_status(error: KeyreeveError, call: Call) -> status_pb2.Status:
    """Build the status of `error`, no larger than `MAX_STATUS_BYTES`."""
    violations = error.violations
    while True:
        status = _build(error, call, violations)
        if status.ByteSize() <= MAX_STATUS_BYTES or not violations:
            return status
        violations = violations[: len(violations) // 2]


Refusal = tuple[int, str, tuple[tuple[str, bytes], ...]]
"""How gRPC is told to end a call: code, message, trailing metadata."""


def trailers(error: KeyreeveError, call: Call) -> Refusal:
    """Code, message and trailing metadata of a failed call."""
    status = to_status(error, call)
    return code_of(error), status.message, ((DETAILS_KEY, status.SerializeToString()),)


def _build(error: KeyreeveError, call: Call, violations: Sequence[Violation]) -> status_pb2.Status:
    metadata = {key: _printable(value, MAX_VALUE_CHARACTERS) for key, value in error.metadata.items()}
    metadata["request_id"] = call.request_id
    if omitted := len(error.violations) - len(violations):
        metadata["violations_omitted"] = str(omitted)
    details: list[Message] = [error_details_pb2.ErrorInfo(domain=DOMAIN, reason=error.reason, metadata=metadata)]
    if violations:
        details.append(_violations(error, violations))
    if error.retry_after is not None:
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromTimedelta(error.retry_after)
        details.append(retry)
    status = status_pb2.Status(code=code_of(error), message=_printable(error.message, MAX_MESSAGE_CHARACTERS))
    for detail in details:
        packed = AnyMessage()
        packed.Pack(detail)
        status.details.append(packed)
    return status


def _violations(error: KeyreeveError, violations: Sequence[Violation]) -> Message:
    if isinstance(error, InvalidArgument):
        bad: Message = error_details_pb2.BadRequest(
            field_violations=[
                error_details_pb2.BadRequest.FieldViolation(
                    field=_printable(one.field, MAX_VALUE_CHARACTERS),
                    description=_printable(one.description, MAX_VALUE_CHARACTERS),
                )
                for one in violations
            ]
        )
        return bad
    unmet: Message = error_details_pb2.PreconditionFailure(
        violations=[
            error_details_pb2.PreconditionFailure.Violation(
                type=error.reason,
                subject=_printable(one.field, MAX_VALUE_CHARACTERS),
                description=_printable(one.description, MAX_VALUE_CHARACTERS),
            )
            for one in violations
        ]
    )
    return unmet


def _printable(text: str, most: int) -> str:
    """Escape characters that could forge log lines or reorder a terminal's text, and cut long text."""
    text = _UNPRINTABLE.sub(lambda found: f"\\u{ord(found.group()):04x}", text)
    # A lone surrogate cannot be written as UTF-8, and protobuf would refuse it in the middle of a refusal.
    text = text.encode("utf-8", "backslashreplace").decode()
    return text if len(text) <= most else text[: most - 1] + "…"


def _is_past(call: Call) -> bool:
    remaining = call.remaining()
    return remaining is not None and remaining <= 0
