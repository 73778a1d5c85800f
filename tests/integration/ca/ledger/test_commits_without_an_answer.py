"""A commit without an outcome: the group is looked up, and if it is not in the ledger it never will be."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy import text

from keyreeve.errors import StoreUnavailable
from keyreeve_ca.ledger.ports import Committed, GateClosed
from keyreeve_chassis.database.transactions import transaction
from keyreeve_chassis.processes import failpoints
from support.databases import CaBench, CaDatabase
from support.ledger_entries import NOW, Block

_OWN_PID = text("SELECT pg_backend_pid()")


@contextmanager
def failing(name: str) -> Iterator[None]:
    """Every hit of a failpoint fails: a single one might be that of a CA which another test has left running here."""
    failpoints.arm({failpoints.ALLOW_VARIABLE: "1", failpoints.ARM_VARIABLE: f"{name}=raise"})
    try:
        yield
    finally:
        failpoints.arm({})


async def test_a_group_in_the_ledger_is_found_with_its_outcomes(ca_bench: CaBench) -> None:
    block = await Block.leased(ca_bench.ledger)
    group = block.group(block.claim(block.certificate(), block.certificate()), block.claim())
    outcomes = await ca_bench.ledger.commit(group)
    assert await ca_bench.ledger.find_group(group.group_id) == outcomes


async def test_a_group_that_was_looked_up_before_it_arrived_can_never_be_committed(ca_bench: CaBench) -> None:
    block = await Block.leased(ca_bench.ledger)
    group = block.group()
    assert await ca_bench.ledger.find_group(group.group_id) is None
    with pytest.raises(GateClosed, match="group"):
        await ca_bench.ledger.commit(group)
    assert await ca_bench.ledger.find_group(group.group_id) is None
    assert await ca_bench.stored() == []


async def test_a_group_that_is_committed_twice_is_answered_twice_and_stored_once(ca_bench: CaBench) -> None:
    block = await Block.leased(ca_bench.ledger)
    group = block.group()
    first = await ca_bench.ledger.commit(group)
    assert await ca_bench.ledger.commit(group) == first
    assert len(await ca_bench.stored()) == 1


async def test_a_group_handed_in_twice_at_once_is_stored_once(ca_bench: CaBench) -> None:
    block = await Block.leased(ca_bench.ledger)
    group, other = block.group(), ca_bench.another_ledger()
    first, second = await asyncio.gather(ca_bench.ledger.commit(group), other.commit(group))
    assert first == second
    assert len(await ca_bench.stored()) == 1


async def test_a_group_whose_twin_was_committed_while_it_waited_is_answered(postgresql_database: CaDatabase) -> None:
    ca_bench = await CaBench.on(postgresql_database)
    block = await Block.leased(ca_bench.ledger)
    group = block.group()
    with postgresql_database.database().engine.connect() as connection, connection.begin():
        connection.execute(text("SELECT 1 FROM serial_blocks FOR UPDATE"))
        both = [asyncio.create_task(one.commit(group)) for one in (ca_bench.ledger, ca_bench.another_ledger())]
        with postgresql_database.database().engine.connect() as watcher:
            waiting = text("SELECT count(DISTINCT pid) FROM pg_locks WHERE NOT granted")
            while await asyncio.to_thread(lambda: watcher.execute(waiting).scalar_one()) < 2:
                pass
    first, second = await asyncio.gather(*both)
    assert first == second
    assert len(await ca_bench.stored()) == 1


async def test_a_commit_and_its_look_up_at_once_agree(ca_bench: CaBench) -> None:
    other = ca_bench.another_ledger()
    for _ in range(10):
        block = await Block.leased(ca_bench.ledger)
        group = block.group()
        committed, found = await asyncio.gather(
            ca_bench.ledger.commit(group), other.find_group(group.group_id), return_exceptions=True
        )
        if found is None:
            assert isinstance(committed, GateClosed)
        else:
            assert committed == found
        assert await ca_bench.ledger.find_group(group.group_id) == found
        assert (group.requests[0].items[0].serial in await ca_bench.stored()) == (found is not None)


async def test_after_a_failure_before_the_commit_nothing_has_happened(ca_bench: CaBench) -> None:
    block = await Block.leased(ca_bench.ledger)
    group = block.group()
    with failing("ca.commit.before"), pytest.raises(StoreUnavailable):
        await ca_bench.ledger.commit(group)
    assert await ca_bench.ledger.find_group(group.group_id) is None
    assert await ca_bench.stored() == []


async def test_after_a_failure_that_follows_the_commit_the_group_is_found(ca_bench: CaBench) -> None:
    block = await Block.leased(ca_bench.ledger)
    group = block.group()
    with failing("ca.commit.after"), pytest.raises(StoreUnavailable):
        await ca_bench.ledger.commit(group)
    [outcome] = await ca_bench.ledger.find_group(group.group_id) or []
    assert isinstance(outcome, Committed)
    assert await ca_bench.stored() == list(outcome.items)


async def test_every_durable_step_passes_the_failpoint(ca_bench: CaBench) -> None:
    block = await Block.leased(ca_bench.ledger)
    ledger = ca_bench.ledger
    steps: list[Callable[[], Awaitable[object]]] = [
        lambda: Block.leased(ledger),
        lambda: ledger.commit(block.group()),
        lambda: ledger.find_group(b"g" * 16),
        lambda: ledger.close_block(block.lease.block_id, "worker-1"),
        lambda: ledger.void_blocks_of("worker-1"),
        lambda: ca_bench.store.write(lambda tx: tx.bump_config()),
        lambda: ledger.purge(NOW + 1),
    ]
    with failing("ca.commit.before"):
        for step in steps:
            with pytest.raises(StoreUnavailable):
                await step()


async def test_a_look_up_waits_for_a_commit_that_is_under_way(postgresql_database: CaDatabase) -> None:
    """The client has gone and the server still works on its COMMIT: an unfinished transaction holds the group's row."""
    ca_bench = await CaBench.on(postgresql_database)
    block = await Block.leased(ca_bench.ledger)
    group = block.group()
    with postgresql_database.database().engine.connect() as connection, transaction(connection, "ca"):
        connection.execute(
            text("INSERT INTO commit_groups (group_id, outcome, created_at) VALUES (:id, :outcome, 1)"),
            {"id": group.group_id, "outcome": b"\x90"},
        )
        looking = asyncio.create_task(ca_bench.ledger.find_group(group.group_id))
        with postgresql_database.database().engine.connect() as watcher:
            waiting = text("SELECT count(*) FROM pg_locks WHERE NOT granted")
            while not await asyncio.to_thread(lambda: watcher.execute(waiting).scalar_one()):
                pass
        assert not looking.done()
    assert await looking == []


async def test_a_lost_connection_is_an_unavailable_store_and_is_replaced(postgresql_database: CaDatabase) -> None:
    ca_bench = await CaBench.on(postgresql_database)
    block = await Block.leased(ca_bench.ledger)

    with pytest.raises(StoreUnavailable):
        await ca_bench.execute("SELECT pg_terminate_backend(pg_backend_pid())")
    assert isinstance((await ca_bench.ledger.commit(block.group()))[0], Committed)


async def test_ended_idle_connections_fail_no_call(postgresql_database: CaDatabase) -> None:
    ca_bench = await CaBench.on(postgresql_database)
    block = await Block.leased(ca_bench.ledger)
    mine = await asyncio.gather(*(ca_bench.writer.read(lambda c: c.scalar(_OWN_PID)) for _ in range(20)))
    with postgresql_database.database().engine.connect() as other:
        other.execute(
            text("SELECT pg_terminate_backend(pid, 60000) FROM unnest(:pids) AS pid"), {"pids": list(set(mine))}
        )
    assert await ca_bench.store.read(lambda tx: tx.control_plane(), one_statement=True) is not None
    assert isinstance((await ca_bench.ledger.commit(block.group()))[0], Committed)
    now = await asyncio.gather(*(ca_bench.writer.read(lambda c: c.scalar(_OWN_PID)) for _ in range(20)))
    assert not set(now) & set(mine)


async def test_what_waits_too_long_for_a_lock_is_an_unavailable_store(postgresql_database: CaDatabase) -> None:
    ca_bench = await CaBench.on(postgresql_database)
    block = await Block.leased(ca_bench.ledger)
    with postgresql_database.database().engine.connect() as connection, connection.begin():
        connection.execute(text("SELECT 1 FROM control_plane FOR UPDATE"))
        await ca_bench.execute("SET lock_timeout = '50ms'")
        with pytest.raises(StoreUnavailable):
            await ca_bench.ledger.commit(block.group())
    assert len(await ca_bench.ledger.commit(block.group())) == 1


async def test_answers_and_groups_are_forgotten_when_they_are_old(ca_bench: CaBench) -> None:
    block = await Block.leased(ca_bench.ledger)
    groups = [block.group(block.claim(), block.claim()) for _ in range(3)]
    for group in groups:
        await ca_bench.ledger.commit(group)
    assert await ca_bench.ledger.purge(1) == 0
    await ca_bench.execute("UPDATE requests SET created_at = 100")
    await ca_bench.execute("UPDATE commit_groups SET created_at = 100")
    assert await ca_bench.ledger.purge(101) == 9
    assert await ca_bench.count("requests") == await ca_bench.count("commit_groups") == 0
    assert len(await ca_bench.stored()) == 6
