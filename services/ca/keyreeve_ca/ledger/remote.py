"""The ledger of a worker on SQLite: every durable step is a call to the coordinator process, which has the only writer."""

from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

from keyreeve_ca.ledger.encoding import flat_group, outcomes_from
from keyreeve_ca.ledger.ports import BlockLease, BlockRequest, CommitGroup, GateClosed, RequestOutcome
from keyreeve_chassis.processes.ipc import Client

CALL_SECONDS = 20.0
_BLOCKS = "blocks"


@dataclass(frozen=True)
class RemoteLedger:
    """`keyreeve_ca.ledger.ports.ProcessLedger` over the coordinator's socket."""

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
        """Say what became of a group; when it is not in the ledger, see to it that it never will be."""
        found = await self._call("find_group", group_id)
        return None if found is None else outcomes_from(found)

    async def close_block(self, block_id: int, worker_id: str) -> bool:
        """Close a block that will not be used further; False when it was not open or not the worker's."""
        closed: bool = await self._call("close_block", (block_id, worker_id))
        return closed

    async def start(self) -> None:
        """The coordinator knows this worker by its connection."""

    def jobs(self) -> Sequence[Coroutine[Any, Any, None]]:
        """None: the connection says that the worker lives."""
        return ()

    async def end(self) -> None:
        """The coordinator voids what is left when the connection closes."""

    async def close_chain(self) -> None:
        """The chain is the coordinator's."""

    async def _call(self, name: str, payload: object) -> Any:  # noqa: ANN401  # plain values
        closed, result = await self.client.call(name, payload, CALL_SECONDS)
        if closed is not None:
            raise GateClosed(closed)
        return result
