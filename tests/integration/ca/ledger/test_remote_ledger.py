"""A worker's ledger on SQLite: durable steps are calls to the coordinator; a worker that ends loses its blocks."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from keyreeve.values import AuthorityState
from keyreeve_ca.ledger.ports import AlreadyAnswered, Committed, GateClosed
from keyreeve_ca.ledger.sqlite import SqliteLedger
from keyreeve_ca.ledger.wire import RemoteLedger
from keyreeve_chassis.processes.ipc import Client, Connection, IpcServer, serve
from support.databases import CaBench, CaDatabase
from support.ledger_entries import Block, authority, block_request, request_id


class Coordinator:
    """A coordinator with two workers' connections to it."""

    def __init__(self, bench: CaBench, path: Path) -> None:
        self.bench = bench
        self.path = path
        assert isinstance(bench.ledger, SqliteLedger)
        self.ledger = bench.ledger
        self.voided: asyncio.Queue[None] = asyncio.Queue()
        self.clients = [Client(path), Client(path)]
        self.server: IpcServer | None = None

    async def start(self) -> None:
        self.server = await serve(self.path, self.ledger.handlers(), self.disconnected)

    async def disconnected(self, connection: Connection) -> None:
        await self.ledger.disconnected(connection)
        self.voided.put_nowait(None)


@pytest.fixture
async def coordinator(sqlite_database: CaDatabase, tmp_path: Path) -> AsyncIterator[Coordinator]:
    coordinator = Coordinator(await CaBench.on(sqlite_database), tmp_path / "run" / "coordinator.sock")
    await coordinator.start()
    yield coordinator
    for client in coordinator.clients:
        await client.close()
    assert coordinator.server is not None
    await coordinator.server.close()


async def test_a_group_crosses_and_comes_back_as_over_the_ledger_itself(coordinator: Coordinator) -> None:
    ledger, same = RemoteLedger(coordinator.clients[0]), request_id()
    block = await Block.leased(ledger)
    taken = block.certificate(spki_sha256=b"\x07" * 32, identity="a", binds_key=True)
    reused = block.certificate(spki_sha256=b"\x07" * 32, identity="b", binds_key=True)
    group = block.group(block.claim(taken), block.claim(reused, block.certificate(), identifier=same), block.claim())
    outcomes = await ledger.commit(group)
    assert [type(o) for o in outcomes] == [Committed] * 3
    assert outcomes[1].items[0].reason == "KEY_REUSED"
    assert await ledger.find_group(group.group_id) == outcomes
    [again] = await ledger.commit(block.group(block.claim(identifier=same)))
    assert again == AlreadyAnswered(b"H" * 32, outcomes[1].items)
    for item in (taken, *(i for i in group.requests[1].items if i.serial != reused.serial)):
        row = await coordinator.bench.store.read(lambda tx, serial=item.serial: tx.certificate(serial))
        assert all(getattr(row, name) == getattr(item, name) for name in row.__slots__ if name != "request_id")


async def test_a_closed_gate_crosses_with_its_reason(coordinator: Coordinator) -> None:
    ledger = RemoteLedger(coordinator.clients[0])
    block = await Block.leased(ledger)
    assert await ledger.close_block(block.lease.block_id, block.request.worker_id)
    with pytest.raises(GateClosed, match="block"):
        await ledger.commit(block.group())
    assert await ledger.find_group(b"g" * 16) is None
    await coordinator.bench.store.write(lambda tx: tx.update_authority(authority(state=AuthorityState.RETIRING)))
    with pytest.raises(GateClosed, match="authority"):
        await ledger.lease_block(block_request())


async def test_groups_of_two_workers_are_committed_together(coordinator: Coordinator) -> None:
    ledgers = [RemoteLedger(client) for client in coordinator.clients]
    blocks = [await Block.leased(ledger, block_request(worker_id=f"w{n}")) for n, ledger in enumerate(ledgers)]
    groups = [(ledger, block.group()) for _ in range(20) for ledger, block in zip(ledgers, blocks, strict=True)]
    await asyncio.gather(*(ledger.commit(group) for ledger, group in groups))
    assert len(await coordinator.bench.stored()) == 40


async def test_a_worker_that_is_gone_loses_its_blocks_and_no_other_does(coordinator: Coordinator) -> None:
    gone, stays = (RemoteLedger(client) for client in coordinator.clients)
    lost = await Block.leased(gone, block_request(worker_id="gone"))
    kept = await Block.leased(stays, block_request(worker_id="stays"))
    await coordinator.clients[0].close()
    await asyncio.wait_for(coordinator.voided.get(), 10)
    with pytest.raises(GateClosed, match="block"):
        await gone.commit(lost.group())  # over a new connection, with the same worker id
    assert len(await stays.commit(kept.group())) == 1


async def test_a_coordinator_voids_every_open_block_when_it_starts(coordinator: Coordinator) -> None:
    ledger = RemoteLedger(coordinator.clients[0])
    block = await Block.leased(ledger)
    assert await coordinator.ledger.void_orphans() == 1
    with pytest.raises(GateClosed, match="block"):
        await ledger.commit(block.group())
