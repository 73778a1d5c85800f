"""The ledger as the use cases see it: values, commit groups, and the ports to write them.

`lease_block` and `commit` are the two durable steps of the signing path (docs/signing.md): the intention, and the
result. Adapters exist for SQLite and PostgreSQL.
"""

import asyncio
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from keyreeve_chassis.processes.ipc import Connection, Handler

BLOCKS = "blocks"
"""Topic of serial blocks: leased ones may begin a CRL shard, void ones leave phantoms."""

BLOCK_SIZE = 4096
MAX_UNCOMMITTED = 1024
"""W: how many serial numbers of one block may be in use beyond the last committed one."""
BLOCKS_PER_CRL_SHARD = 5
"""A shard covers at most 5 x 4,096 certificates, so its list stays below 1 MiB even if all of them are revoked."""


@dataclass(frozen=True, slots=True)
class InProcess:
    """Origin of a request that no RPC brought: a serving certificate, or the local admin socket.

    It is also the exemption from a halt of issuance (docs/halt.md): never create one for a request that came over the
    network.
    """

    method: ClassVar[str] = "in-process"
    """As the ledger and the audit log store it; no RPC has this name."""
    token_id: ClassVar[bytes] = b""

    @property
    def exemption(self) -> "InProcess":
        """Whether a halt leaves the request alone."""
        return self


@dataclass(frozen=True, slots=True)
class Rpc:
    """Origin of a request that came over the network."""

    method: str
    """Full name, `/package.Service/Method`."""
    token_id: bytes = b""
    """Of the enrollment token that must be bound to the certificate's key when it is committed; empty: none."""
    exemption: ClassVar[None] = None

    def __post_init__(self) -> None:
        if not self.method.startswith("/"):
            raise ValueError(f"{self.method!r} is not the full name of an RPC")


Origin = InProcess | Rpc


@dataclass(frozen=True, slots=True)
class SerialBlock:
    """A leased block of serial numbers, committed before its first use."""

    block_id: int
    restore_generation: int
    authority_id: str
    worker_id: str
    profile_hashes: frozenset[bytes]
    seed: bytes
    crl_shard: int
    size: int = BLOCK_SIZE


@dataclass(frozen=True, slots=True)
class BlockRequest:
    """A worker's request for a block; the seed arrives sealed, and `seed_id` is part of its associated data."""

    authority_id: str
    worker_id: str
    profile_hashes: frozenset[bytes]
    seed_id: str
    sealed_seed: bytes
    exemption: InProcess | None = None
    """Lets it be leased while issuance is halted."""


@dataclass(frozen=True, slots=True)
class BlockLease:
    """The answer to a `BlockRequest`."""

    block_id: int
    restore_generation: int
    crl_shard: int


@dataclass(frozen=True, slots=True)
class IssuedCertificate:
    """One certificate as the ledger stores it."""

    serial: bytes
    """16 octets, big-endian."""
    authority_id: str
    profile_name: str
    profile_version: int
    caller: str
    request_id: str
    identity: str
    spki_sha256: bytes
    not_before: int
    not_after: int
    issued_at: int
    der: bytes
    csr: bytes
    requested_sans: str
    """JSON list of [type, value]: names asked for beside those in the CSR (simulation needs them)."""
    requested_lifetime_seconds: int | None
    renews: bytes | None = None
    """Serial of the certificate that this one renews: at most one certificate renews another."""
    requested_common_name: str | None = None
    ignored: str = "[]"
    """JSON list of the parts of the request that the certificate does not have."""
    binds_key: bool = False
    """Refuse when the key belongs to another identity (`Profile.one_identity_per_key`)."""


@dataclass(frozen=True, slots=True)
class ItemFailure:
    """Why one item of a request was refused: enough to rebuild the error."""

    reason: str
    message: str
    metadata: dict[str, str]


class AuditRecord(Protocol):
    """The audit record of a call, committed together with the call's effect."""

    head: bytes
    """The record without its outcome (keyreeve/audit/record.py)."""
    entrusted: "asyncio.Future[Any] | None"
    """The commit that writes the record if and only if it gets a result; no other code writes it then."""

    def tell(self, field: str, value: str) -> None:
        """Add to the call's resources; never a secret."""
        ...


@dataclass(frozen=True, slots=True)
class RequestClaim:
    """One request of a group: its identity, a hash of its payload, and its items in order."""

    caller: str
    """`Caller.claimant`."""
    origin: Origin
    request_id: str
    payload_sha256: bytes
    items: tuple[IssuedCertificate | ItemFailure, ...]
    audit: bytes = b""
    """Head of its audit record; the ledger makes one for a request that came by no call."""
    batch: bool = False
    """Answered item by item, so that it succeeds even when items fail."""


@dataclass(frozen=True, slots=True)
class CommitGroup:
    """What a worker commits at once: certificates of one block, counters used in order."""

    group_id: bytes
    """16 octets, best beginning with the time (as UUIDv7 does) so that the ledger's index is appended to.

    An ambiguous commit is looked up by it before anything is answered.
    """
    worker_id: str
    block_id: int
    restore_generation: int
    authority_id: str
    profile_hashes: frozenset[bytes]
    """Hashes of the profile versions in use in this group."""
    last_counter: int
    """Highest counter of the block that this group uses."""
    requests: tuple[RequestClaim, ...]


@dataclass(frozen=True, slots=True)
class Committed:
    """The request is in the ledger. Items may have failed inside the commit (KEY_REUSED, RENEWAL_SUPERSEDED)."""

    items: tuple[bytes | ItemFailure, ...]
    """Serial or failure per item, in order."""


@dataclass(frozen=True, slots=True)
class AlreadyAnswered:
    """The request had been claimed before, by a retry or a race: nothing of this one was stored."""

    payload_sha256: bytes
    """Of the claim that won; if it is not ours the request is REQUEST_ID_REUSED."""
    items: tuple[bytes | ItemFailure, ...]


RequestOutcome = Committed | AlreadyAnswered


class GateClosed(Exception):
    """The commit gate refused a group; nothing of it was stored and its signatures must be thrown away.

    `why` is one of: `restore_generation`, `halted`, `authority`, `profile`, `block`, `worker` (its lease has expired: only when it
    asks for a block), `group` (it was looked up before it arrived). The worker reloads its snapshot and signs again.
    """

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


class Ledger(Protocol):
    """The signing path's two durable steps."""

    async def lease_block(self, request: BlockRequest) -> BlockLease:
        """Record a block before its first use. Raises `GateClosed` when the authority may not issue."""
        ...

    async def commit(self, group: CommitGroup) -> Sequence[RequestOutcome]:
        """Commit a group behind the gate and answer one outcome per request, in order.

        Raises `GateClosed` (nothing stored) or `keyreeve.errors.StoreUnavailable` (nothing known: ask `find_group`).
        """
        ...

    async def find_group(self, group_id: bytes) -> Sequence[RequestOutcome] | None:
        """Return the outcomes of a group whose commit gave no answer.

        None: it is not in the ledger and never will be.
        """
        ...

    async def close_block(self, block_id: int, worker_id: str) -> bool:
        """Close a block that its worker no longer uses; False when it was not open or not the worker's."""
        ...


class ProcessLedger(Ledger, Protocol):
    """The ledger of one process, with its life cycle."""

    async def start(self) -> None:
        """Prepare for `lease_block`; called once."""
        ...

    def jobs(self) -> Sequence[Coroutine[Any, Any, None]]:
        """Background jobs that the started ledger needs."""
        ...

    async def end(self) -> None:
        """Undo `start`, after the blocks are closed."""
        ...

    async def close_chain(self) -> None:
        """End this process's audit chain; nothing is committed after it."""
        ...


class CoordinatorLedger(ProcessLedger, Protocol):
    """The ledger of the coordinator, which also maintains it for all processes."""

    async def prepare(self) -> None:
        """Clean up after the processes of an earlier run."""
        ...

    def upkeep(self) -> Sequence[Coroutine[Any, Any, None]]:
        """Background jobs for all processes."""
        ...

    def handlers(self) -> Mapping[str, Handler]:
        """Handlers for the workers, over the coordinator's socket."""
        ...

    async def disconnected(self, connection: Connection) -> None:
        """Void the blocks leased over a connection that has closed."""
        ...

    async def purge(self, before: int, limit: int) -> int:
        """See `Purging`."""
        ...

    async def expired_block(self, before: int, first: int) -> int | None:
        """See `Purging`."""
        ...

    async def purge_certificates(self, block_id: int, before: int, limit: int) -> int | None:
        """See `Purging`."""
        ...

    async def ended_sessions(self, before: int, limit: int) -> Sequence[str]:
        """See `Purging`."""
        ...

    async def purge_sessions(self, session_ids: Sequence[str]) -> int | None:
        """See `Purging`."""
        ...
