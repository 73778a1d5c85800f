"""The audit records of a group's requests: made when it is known what became of them, committed with them."""

from collections.abc import Sequence

from keyreeve.audit import record as records
from keyreeve.errors import from_reason
from keyreeve_ca.ledger.encoding import ANSWERED, Outcome, RequestTuple

_REUSED = "REQUEST_ID_REUSED"


def records_of(requests: Sequence[RequestTuple], outcomes: Sequence[Outcome], now: int) -> list[bytes]:
    """One record for each request; `now` in milliseconds since 1970 is for those that came by no call."""
    return [
        (request.audit or _own_head(request, now)) + _tail(request, outcome)
        for request, outcome in zip(requests, outcomes, strict=True)
    ]


def _own_head(request: RequestTuple, now: int) -> bytes:
    made = records.prefix(request.method, request.caller, "", subject="", peer="", tls="")
    return records.head(made, now, request.request_id, "", ())


def _tail(request: RequestTuple, outcome: Outcome) -> bytes:
    results = outcome[-1]
    if outcome[0] == ANSWERED and outcome[1] != request.payload_sha256:
        return _failed(_REUSED)
    if not request.batch and len(results) == 1 and not isinstance(results[0], bytes):
        return _failed(results[0][0])
    told = [
        ("certificate", result.hex()) if isinstance(result, bytes) else (f"items[{at}]", result[0])
        for at, result in enumerate(results)
    ]
    if outcome[0] == ANSWERED:
        told.append(("answer", "repeated"))
    return records.tail("OK", "", told)


def _failed(reason: str) -> bytes:
    return records.tail(from_reason(reason, "").code, reason)
