"""The coordinator's side of a `RemoteLedger`: it leases blocks and commits groups for workers, over the local socket.

It remembers the blocks that it leased over each connection and voids them when that closes: a worker that is gone cannot
use the rest.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Protocol

from keyreeve_ca.ledger.encoding import GroupTuple, Outcome, group_from
from keyreeve_ca.ledger.ports import BlockLease, BlockRequest, GateClosed, InProcess
from keyreeve_chassis.processes.ipc import Connection, Handler

_BLOCKS = "blocks"


class Writer(Protocol):
    """The ledger of the process that writes."""

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
    """Answer (None, result), or (why, None) when the gate was closed."""

    async def answer(payload: object, connection: Connection) -> tuple[str | None, object]:
        try:
            return None, await handler(payload, connection)
        except GateClosed as closed:
            return closed.why, None

    return answer
