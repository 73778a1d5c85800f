"""Groups and outcomes as flat tuples: for msgpack between worker and coordinator, and for SQL.

A certificate crosses the process boundary as the tuple of its fields and goes into `executemany` or COPY as that tuple,
without conversion. One list of columns makes the tuple, the INSERT and the COPY.
"""

import zlib
from collections.abc import Iterable, Sequence
from operator import attrgetter
from typing import Any, NamedTuple

import msgpack
from sqlalchemy import BigInteger, Integer, LargeBinary, Text

from keyreeve_ca.ledger.ports import (
    AlreadyAnswered,
    CommitGroup,
    Committed,
    IssuedCertificate,
    ItemFailure,
    RequestClaim,
    RequestOutcome,
)
from keyreeve_ca.store.tables import certificates

_FAILURE_FIELDS = 3
COMMITTED, ANSWERED = 0, 1

FailureTuple = tuple[Any, ...]
"""(reason, message, metadata)."""
Item = tuple[Any, ...]
"""A `CertificateTuple` or a `FailureTuple`: `is_certificate` tells by the length."""
Result = bytes | FailureTuple
"""What became of an item: a serial number, or why there is none."""
Outcome = tuple[Any, ...]
"""(COMMITTED, results) or (ANSWERED, payload_sha256, results)."""
CertificateTuple = tuple[Any, ...]
"""The values of `FIELDS`."""
Row = tuple[Any, ...]
"""The values of `COLUMNS`."""

COLUMNS = tuple(certificates.c.keys())
DERIVED = ("block_number", "identity_crc")
"""The last columns: `row` adds them when the certificate goes into the ledger."""
FIELDS = (*COLUMNS[: -len(DERIVED)], "binds_key")
"""A certificate on its way there: attributes of `IssuedCertificate`, of which the last is not stored."""
SERIAL, AUTHORITY, IDENTITY, SPKI, NOT_AFTER, RENEWS, BINDS_KEY = (
    FIELDS.index(name)
    for name in ("serial", "authority_id", "identity", "spki_sha256", "not_after", "renews", "binds_key")
)

_POSTGRESQL_TYPES = {LargeBinary: "bytea", Text: "text", Integer: "int4", BigInteger: "int8"}
_NAMES = ", ".join(COLUMNS)
SQLITE_INSERT = f"INSERT INTO certificates ({_NAMES}) VALUES ({', '.join('?' * len(COLUMNS))})"  # noqa: S608  # constants
POSTGRESQL_COPY = f"COPY certificates ({_NAMES}) FROM STDIN (FORMAT BINARY)"
POSTGRESQL_TYPES = tuple(_POSTGRESQL_TYPES[type(column.type)] for column in certificates.c)
"""For `psycopg.Copy.set_types`."""
certificate_tuple: "attrgetter[CertificateTuple]" = attrgetter(*FIELDS)
"""The tuple of an `IssuedCertificate`."""


class RequestTuple(NamedTuple):
    """A `RequestClaim`."""

    caller: str
    method: str
    request_id: str
    payload_sha256: bytes
    items: Sequence[Item]
    audit: bytes = b""
    batch: bool = False
    exempt: bool = False
    """From a halt of issuance."""

    @property
    def key(self) -> tuple[str, str, str]:
        return self[:3]


class GroupTuple(NamedTuple):
    """A `CommitGroup`."""

    group_id: bytes
    worker_id: str
    block_id: int
    restore_generation: int
    authority_id: str
    profile_hashes: Sequence[bytes]
    last_counter: int
    requests: Sequence[RequestTuple]


def row(certificate: CertificateTuple, block_number: int) -> Row:
    """The row of a certificate; `block_number` is the number of its block."""
    return (*certificate[:-1], block_number, zlib.crc32(certificate[IDENTITY].encode()))


def is_certificate(item: Item) -> bool:
    """Whether an item of a request is a certificate rather than a failure."""
    return len(item) != _FAILURE_FIELDS


def flat_group(group: CommitGroup) -> GroupTuple:
    """Return a group as tuples."""
    return GroupTuple(
        group.group_id,
        group.worker_id,
        group.block_id,
        group.restore_generation,
        group.authority_id,
        tuple(group.profile_hashes),
        group.last_counter,
        tuple(_flat_request(r) for r in group.requests),
    )


def _flat_request(claim: RequestClaim) -> RequestTuple:
    return RequestTuple(
        claim.caller,
        claim.origin.method,
        claim.request_id,
        claim.payload_sha256,
        tuple(
            certificate_tuple(i) if isinstance(i, IssuedCertificate) else (i.reason, i.message, i.metadata)
            for i in claim.items
        ),
        claim.audit,
        claim.batch,
        claim.origin.exemption is not None,
    )


def group_from(received: Sequence[Any]) -> GroupTuple:
    """Return the group that msgpack decoded."""
    group = GroupTuple(*received)
    return group._replace(requests=[RequestTuple(*r) for r in group.requests])


def outcomes_from(received: Iterable[Sequence[Any]]) -> list[RequestOutcome]:
    """Return outcomes as the port defines them."""
    return [
        Committed(results_from(o[1])) if o[0] == COMMITTED else AlreadyAnswered(o[1], results_from(o[2]))
        for o in received
    ]


def results_from(received: Iterable[Result]) -> tuple[bytes | ItemFailure, ...]:
    """Return results as the port defines them."""
    return tuple(r if isinstance(r, bytes) else ItemFailure(*r) for r in received)


def pack(value: object) -> bytes:
    """Encode plain values."""
    packed: bytes = msgpack.packb(value)
    return packed


def unpack(data: bytes) -> Any:  # noqa: ANN401  # whatever was packed
    """Decode plain values; arrays become tuples."""
    return msgpack.unpackb(data, use_list=False)
