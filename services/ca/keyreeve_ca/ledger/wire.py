"""What crosses the local socket to the ledger's writer: groups and outcomes as flat tuples, and both ends of the socket.

Flat tuples are what msgpack carries, and what SQL is given: a certificate goes into `executemany` or COPY as the tuple that
the worker made, and nothing is built from it on the way. One list of columns makes the tuple, the INSERT and the COPY.

On SQLite the coordinator has the only writer. It remembers the blocks that it leased over each connection and voids them
when that closes: a worker that is gone cannot use the rest.
"""

import zlib
from collections.abc import Collection, Coroutine, Iterable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, NamedTuple, Protocol

import msgpack
from sqlalchemy import BigInteger, Integer, LargeBinary, Text

from keyreeve_ca.ledger.ports import (
    AlreadyAnswered,
    BlockLease,
    BlockRequest,
    CommitGroup,
    Committed,
    GateClosed,
    InProcess,
    IssuedCertificate,
    ItemFailure,
    RequestClaim,
    RequestOutcome,
)
from keyreeve_ca.store.tables import certificates
from keyreeve_chassis.processes.ipc import Client, Connection, Handler

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
SERIAL, AUTHORITY, PROFILE, IDENTITY, SPKI, NOT_AFTER, RENEWS, BINDS_KEY = (
    FIELDS.index(name)
    for name in (
        "serial",
        "authority_id",
        "profile_name",
        "identity",
        "spki_sha256",
        "not_after",
        "renews",
        "binds_key",
    )
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
    token_id: bytes = b""
    """Of the enrollment token that has to be bound to the key."""

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
        claim.origin.token_id,
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


CALL_SECONDS = 20.0
_BLOCKS = "blocks"


@dataclass(frozen=True)
class RemoteLedger:
    """`ProcessLedger` over the coordinator's socket."""

    client: Client

    async def lease_block(self, request: BlockRequest) -> BlockLease:
        """Record a block before its first use. Raises `GateClosed`, `StoreUnavailable`."""
        payload = (
            request.authority_id,
            request.worker_id,
            tuple(request.profile_hashes),
            request.seed_id,
            request.sealed_seed,
            request.exemption is not None,
        )
        return BlockLease(*await self._call("lease_block", payload))

    async def commit(self, group: CommitGroup) -> Sequence[RequestOutcome]:
        """Commit a group behind the gate. Raises `GateClosed`, `StoreUnavailable`."""
        return outcomes_from(await self._call("commit", flat_group(group)))

    async def find_group(self, group_id: bytes) -> Sequence[RequestOutcome] | None:
        """Return a group's outcomes; when it is not in the ledger, make sure it never will be."""
        found = await self._call("find_group", group_id)
        return None if found is None else outcomes_from(found)

    async def close_block(self, block_id: int, worker_id: str) -> bool:
        """Close a block that is no longer used; False when it was not open or not the worker's."""
        closed: bool = await self._call("close_block", (block_id, worker_id))
        return closed

    async def start(self) -> None:
        """Do nothing: the coordinator knows this worker by its connection."""

    def jobs(self) -> Sequence[Coroutine[Any, Any, None]]:
        """None: the connection says that the worker lives."""
        return ()

    async def end(self) -> None:
        """Do nothing: the coordinator voids open blocks when the connection closes."""

    async def close_chain(self) -> None:
        """Do nothing: the chain is the coordinator's."""

    async def _call(self, name: str, payload: object) -> Any:  # noqa: ANN401  # plain values
        closed, result = await self.client.call(name, payload, CALL_SECONDS)
        if closed is not None:
            raise GateClosed(closed)
        return result


class Writer(Protocol):
    """The ledger of the writing process."""

    async def lease_block(self, request: BlockRequest) -> BlockLease: ...
    async def commit_flat(self, group: GroupTuple) -> list[Outcome]: ...
    async def find_group_flat(self, group_id: bytes) -> list[Outcome] | None: ...
    async def close_block(self, block_id: int, worker_id: str) -> bool: ...
    async def void_blocks(self, block_ids: Collection[int]) -> int: ...


@dataclass(frozen=True)
class LedgerHandlers:
    """What the coordinator answers; give `table()` and `disconnected` to `keyreeve_chassis.processes.ipc.serve`."""

    ledger: Writer

    def table(self) -> dict[str, Handler]:
        """Handlers by name."""
        return {
            "lease_block": _gated(self._lease_block),
            "commit": _gated(self._commit),
            "find_group": _gated(self._find_group),
            "close_block": _gated(self._close_block),
        }

    async def disconnected(self, connection: Connection) -> None:
        """Void what was leased over a connection that has closed."""
        blocks = connection.state.get(_BLOCKS)
        if blocks:
            await self.ledger.void_blocks(blocks)

    async def _lease_block(self, payload: Any, connection: Connection) -> object:  # noqa: ANN401  # plain values
        authority_id, worker_id, profile_hashes, seed_id, sealed_seed, exempt = payload
        exemption = InProcess() if exempt else None
        lease = await self.ledger.lease_block(
            BlockRequest(authority_id, worker_id, frozenset(profile_hashes), seed_id, sealed_seed, exemption)
        )
        connection.state.setdefault(_BLOCKS, set()).add(lease.block_id)
        return (lease.block_id, lease.restore_generation, lease.crl_shard)

    async def _commit(self, payload: Any, _connection: Connection) -> object:  # noqa: ANN401  # plain values
        return await self.ledger.commit_flat(group_from(payload))

    async def _find_group(self, payload: bytes, _connection: Connection) -> object:
        return await self.ledger.find_group_flat(payload)

    async def _close_block(self, payload: tuple[int, str], connection: Connection) -> object:
        block_id, worker_id = payload
        connection.state.get(_BLOCKS, set()).discard(block_id)
        return await self.ledger.close_block(block_id, worker_id)


def _gated(handler: Handler) -> Handler:
    """Return (None, result), or (why, None) when the gate was closed."""

    async def answer(payload: object, connection: Connection) -> tuple[str | None, object]:
        try:
            return None, await handler(payload, connection)
        except GateClosed as closed:
            return closed.why, None

    return answer
