"""The commit gate on both databases: each reason to refuse a group, and that nothing of it is stored."""

import asyncio
from dataclasses import replace

import pytest

from keyreeve.values import AuthorityState
from keyreeve_ca.ledger.ports import CommitGroup, Committed, GateClosed
from support.databases import CaBench, CaDatabase
from support.ledger_entries import NOW, PROFILE_HASH, WORKER, Block, authority, block_request


async def refusal(ca_bench: CaBench, group: CommitGroup) -> str:
    """Commit a group that must be refused; return why it was."""
    with pytest.raises(GateClosed) as closed:
        await ca_bench.ledger.commit(group)
    assert await ca_bench.stored() == []
    return closed.value.why


async def test_a_sound_group_is_committed_and_its_certificates_can_be_read_back(ca_bench: CaBench) -> None:
    block = await Block.leased(ca_bench.ledger)
    claim = block.claim(block.certificate(), block.certificate())
    outcomes = await ca_bench.ledger.commit(block.group(claim))
    assert outcomes == [Committed(tuple(i.serial for i in claim.items))]
    for item in claim.items:
        row = await ca_bench.store.read(lambda tx, serial=item.serial: tx.certificate(serial))
        assert all(getattr(row, name) == getattr(item, name) for name in row.__slots__)


async def test_a_group_of_another_restore_generation_is_refused(ca_bench: CaBench) -> None:
    block = await Block.leased(ca_bench.ledger)
    await ca_bench.execute("UPDATE control_plane SET restore_generation = 2")
    assert await refusal(ca_bench, block.group()) == "restore_generation"


async def test_a_block_of_an_older_restore_generation_is_refused_even_if_the_group_claims_the_new_one(
    ca_bench: CaBench,
) -> None:
    block = await Block.leased(ca_bench.ledger)
    await ca_bench.execute("UPDATE control_plane SET restore_generation = 2")
    assert await refusal(ca_bench, block.group(restore_generation=2)) == "restore_generation"


@pytest.mark.parametrize("state", [s for s in AuthorityState if s is not AuthorityState.ACTIVE])
async def test_a_group_of_an_authority_that_is_not_active_is_refused(ca_bench: CaBench, state: AuthorityState) -> None:
    block = await Block.leased(ca_bench.ledger)
    await ca_bench.store.write(lambda tx: tx.update_authority(authority(state=state)))
    assert await refusal(ca_bench, block.group()) == "authority"


async def test_a_group_that_uses_a_halted_profile_is_refused(ca_bench: CaBench) -> None:
    block = await Block.leased(ca_bench.ledger)
    await ca_bench.store.write(lambda tx: tx.halt_profile("server", 1))
    assert await refusal(ca_bench, block.group()) == "profile"


async def test_a_void_block_is_refused(ca_bench: CaBench) -> None:
    block = await Block.leased(ca_bench.ledger)
    assert await ca_bench.ledger.void_blocks_of(WORKER) == 1
    assert await refusal(ca_bench, block.group()) == "block"


async def test_a_closed_block_is_refused(ca_bench: CaBench) -> None:
    block = await Block.leased(ca_bench.ledger)
    assert await ca_bench.ledger.close_block(block.lease.block_id, WORKER)
    assert await refusal(ca_bench, block.group()) == "block"


async def test_a_block_that_was_never_leased_is_refused(ca_bench: CaBench) -> None:
    block = await Block.leased(ca_bench.ledger)
    block.lease = replace(block.lease, block_id=block.lease.block_id + 1)
    assert await refusal(ca_bench, block.group()) == "block"


async def test_another_workers_block_is_refused(ca_bench: CaBench) -> None:
    block = await Block.leased(ca_bench.ledger)
    assert await refusal(ca_bench, block.group(worker_id="worker-2")) == "block"


async def test_a_profile_that_the_block_does_not_pin_is_refused(ca_bench: CaBench) -> None:
    block = await Block.leased(ca_bench.ledger)
    assert await refusal(ca_bench, block.group(profile_hashes=frozenset({PROFILE_HASH, b"Q" * 32}))) == "block"


async def test_a_block_reserved_for_a_ca_certificate_is_closed_to_leaves(ca_bench: CaBench) -> None:
    lease = await ca_bench.store.write(lambda tx: tx.reserve_block(block_request()))
    assert await refusal(ca_bench, Block(lease, block_request()).group()) == "block"


async def test_a_serial_number_outside_the_groups_block_is_refused(ca_bench: CaBench) -> None:
    block, other = await Block.leased(ca_bench.ledger), await Block.leased(ca_bench.ledger)
    assert await refusal(ca_bench, block.group(block.claim(other.certificate()), last_counter=0)) == "block"


async def test_a_certificate_of_another_authority_than_the_groups_is_refused(ca_bench: CaBench) -> None:
    block = await Block.leased(ca_bench.ledger)
    assert await refusal(ca_bench, block.group(block.claim(block.certificate(authority_id="estate-2")))) == "block"


async def test_counters_that_do_not_rise_are_refused(ca_bench: CaBench) -> None:
    block = await Block.leased(ca_bench.ledger)
    early, late = block.group(), block.group()
    assert isinstance((await ca_bench.ledger.commit(late))[0], Committed)
    with pytest.raises(GateClosed, match="block"):
        await ca_bench.ledger.commit(early)


async def test_a_counter_beyond_the_block_or_too_far_ahead_is_refused(ca_bench: CaBench) -> None:
    block = await Block.leased(ca_bench.ledger)
    assert await refusal(ca_bench, block.group(last_counter=4096)) == "block"
    assert await refusal(ca_bench, block.group(last_counter=1024)) == "block"
    await ca_bench.ledger.commit(block.group(last_counter=1023))


async def test_a_block_closes_when_its_last_counter_is_committed(ca_bench: CaBench) -> None:
    block = await Block.leased(ca_bench.ledger)
    for last in (1023, 2047, 3071, 4095):
        await ca_bench.ledger.commit(block.group(last_counter=last))
    assert await ca_bench.ledger.close_block(block.lease.block_id, WORKER) is False


async def test_one_refused_group_does_not_spoil_those_that_wait_with_it(ca_bench: CaBench) -> None:
    good, bad = await Block.leased(ca_bench.ledger), await Block.leased(ca_bench.ledger)
    await ca_bench.ledger.close_block(bad.lease.block_id, WORKER)
    groups = [good.group(), bad.group(), good.group(), bad.group(), good.group()]
    results = await asyncio.gather(*(ca_bench.ledger.commit(g) for g in groups), return_exceptions=True)
    assert [type(r).__name__ for r in results] == ["list", "GateClosed", "list", "GateClosed", "list"]
    assert len(await ca_bench.stored()) == 3


async def test_a_group_with_a_repeated_serial_number_fails_alone(ca_bench: CaBench) -> None:
    block, other = await Block.leased(ca_bench.ledger), await Block.leased(ca_bench.ledger)
    first = block.certificate()
    await ca_bench.ledger.commit(block.group(block.claim(first)))
    groups = [other.group(), block.group(block.claim(first), last_counter=5), other.group()]
    results = await asyncio.gather(*(ca_bench.ledger.commit(g) for g in groups), return_exceptions=True)
    assert isinstance(results[1], Exception)
    assert len(await ca_bench.stored()) == 3


async def test_blocks_rise_strictly_even_when_the_clock_goes_back(ca_database: CaDatabase) -> None:
    times = iter([NOW, NOW - 1_000_000, NOW - 2_000_000, *[NOW] * 50])
    ca_database.now = lambda: next(times)
    ca_bench = await CaBench.on(ca_database)
    ids = [(await ca_bench.ledger.lease_block(block_request())).block_id for _ in range(5)]
    assert ids == sorted(set(ids))


async def test_every_sixth_block_of_an_authority_begins_a_new_crl_shard(ca_bench: CaBench) -> None:
    shards = [(await ca_bench.ledger.lease_block(block_request())).crl_shard for _ in range(11)]
    assert shards == [0] * 5 + [1] * 5 + [2]


@pytest.mark.parametrize("state", ["pending", "retiring", "retired", "revoked"])
async def test_no_block_is_leased_for_an_authority_that_is_not_active(ca_bench: CaBench, state: str) -> None:
    await ca_bench.store.write(lambda tx: tx.update_authority(authority(state=AuthorityState(state))))
    with pytest.raises(GateClosed, match="authority"):
        await ca_bench.ledger.lease_block(block_request())


async def test_no_block_is_leased_for_a_halted_profile(ca_bench: CaBench) -> None:
    await ca_bench.store.write(lambda tx: tx.halt_profile("server", 1))
    with pytest.raises(GateClosed, match="profile"):
        await ca_bench.ledger.lease_block(block_request())
