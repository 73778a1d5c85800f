"""The ledger over the coordinator's socket, for SQLite: the worker's side and the coordinator's.

The coordinator remembers the blocks leased over each connection and voids them when it closes: a worker that is gone
cannot use the rest.
"""

from collections.abc import Collection, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from keyreeve_ca.ledger.encoding import GroupTuple, Outcome, flat_group, group_from, outcomes_from
from keyreeve_ca.ledger.ports import BlockLease, BlockRequest, CommitGroup, GateClosed, InProcess, RequestOutcome
from keyreeve_chassis.processes.ipc import Client, Connection, Handler

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
