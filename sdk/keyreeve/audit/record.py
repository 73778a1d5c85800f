"""Audit records: who called what, on whose behalf, about what, and how it ended.

A record never contains a secret.

    record = head || tail
    head   = LP("keyreeve-audit-record-1", method, caller, credential, subject, peer, tls, time, request_id, call_id, targets)
    tail   = LP(code, reason, results, calls)

`LP` is `keyreeve.length_prefix`; text is UTF-8, numbers are 8 octets, big-endian; `targets` and `results` are LP(field,
value, field, value, ...). The head is known when a call begins and the tail when its effects are about to be committed, so
the two are made in different places. Imports only the standard library and `keyreeve.length_prefix`.
"""

from collections.abc import Iterable
from typing import Final, NamedTuple, Self

from keyreeve import length_prefix
from keyreeve.length_prefix import length_prefixed

VERSION: Final = b"keyreeve-audit-record-1"
MAX_TEXT = 256
"""Longest value of a request in a record, in characters."""

Pairs = tuple[tuple[str, str], ...]


class RecordInvalid(ValueError):
    """The bytes are not a record in this format."""


class Record(NamedTuple):
    """The values of a record."""

    method: str
    """Full method name, or `keyreeve/...` for an action of the service itself."""
    caller: str
    """SPIFFE ID; empty when the certificate was not accepted."""
    credential: str
    """Serial number of the caller's certificate in hex."""
    subject: str
    """SPIFFE ID on whose behalf the caller acted; empty: its own."""
    peer: str
    """Transport address."""
    tls: str
    """TLS version, such as `TLSv1.3`."""
    time: int
    """When the call began, in milliseconds since 1970 by the clock of the process that served it."""
    request_id: str
    """The request's id, which makes a mutation idempotent; empty for reads."""
    call_id: str
    """The id of this call in logs and errors."""
    targets: Pairs
    """Fields of the request, as far as the method's list allows, and their values."""
    code: str
    """Name of the gRPC status code."""
    reason: str
    """Reason of the failure; empty for `OK`."""
    results: Pairs
    """Results, such as the names of certificates."""
    calls: int
    """Number of calls that this record counts; above 1 only for refusals for load, and of peers without an identity."""

    def encode(self) -> bytes:
        """Encode the canonical bytes."""
        return self.head() + tail(self.code, self.reason, self.results, self.calls)

    def head(self) -> bytes:
        """Encode the first part."""
        return head(
            prefix(self.method, self.caller, self.credential, subject=self.subject, peer=self.peer, tls=self.tls),
            self.time,
            self.request_id,
            self.call_id,
            self.targets,
        )

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Decode the canonical bytes. Raises `RecordInvalid`."""
        fields = split_fields(data)
        if len(fields) != 15 or fields[0] != VERSION:
            raise RecordInvalid("not a record of version 1")
        try:
            method, caller, credential, subject, peer, tls = (field.decode() for field in fields[1:7])
            return cls(
                method=method,
                caller=caller,
                credential=credential,
                subject=subject,
                peer=peer,
                tls=tls,
                time=_number(fields[7]),
                request_id=fields[8].decode(),
                call_id=fields[9].decode(),
                targets=_pairs(fields[10]),
                code=fields[11].decode(),
                reason=fields[12].decode(),
                results=_pairs(fields[13]),
                calls=_number(fields[14]),
            )
        except UnicodeDecodeError:
            raise RecordInvalid("a text is not UTF-8") from None


def u64(number: int) -> bytes:
    """Encode a number in 8 octets, big-endian."""
    return number.to_bytes(8, "big")


def prefix(method: str, caller: str, credential: str, *, subject: str, peer: str, tls: str) -> bytes:
    """Encode what all records of a caller's calls of a method have in common."""
    return length_prefixed(VERSION, *(text.encode() for text in (method, caller, credential, subject, peer, tls)))


def head(prefixed: bytes, time: int, request_id: str, call_id: str, targets: Pairs) -> bytes:
    """Encode the part that is known when a call begins."""
    return prefixed + length_prefixed(u64(time), request_id.encode(), call_id.encode(), _pack(targets))


def tail(code: str, reason: str = "", results: Iterable[tuple[str, str]] = (), calls: int = 1) -> bytes:
    """Encode the part that is known when a call ends."""
    return length_prefixed(code.encode(), reason.encode(), _pack(results), u64(calls))


def clean(text: str) -> str:
    """Truncate a value of a request for a record, and make it encodable in UTF-8."""
    return text[:MAX_TEXT].encode("utf-8", "backslashreplace").decode()


def split_fields(data: bytes) -> list[bytes]:
    """Decode LP. Raises `RecordInvalid`."""
    try:
        return length_prefix.split_fields(data)
    except ValueError as failure:
        raise RecordInvalid(str(failure)) from None


def _pack(pairs: Iterable[tuple[str, str]]) -> bytes:
    return length_prefixed(*[text.encode() for pair in pairs for text in pair])


def _number(field: bytes) -> int:
    if len(field) != 8:
        raise RecordInvalid("a number has 8 octets")
    return int.from_bytes(field, "big")


def _pairs(field: bytes) -> Pairs:
    texts = [text.decode() for text in split_fields(field)]
    if len(texts) % 2:
        raise RecordInvalid("a field has no value")
    return tuple(zip(texts[::2], texts[1::2], strict=True))
