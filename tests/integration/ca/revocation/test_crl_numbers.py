"""CRL numbers and contents never go back, through crashes and with several coordinators."""

from contextlib import suppress

import pytest

from keyreeve.errors import StoreUnavailable
from keyreeve.values import CrlReason
from keyreeve_ca.revocation import crls_sql as lists
from keyreeve_ca.revocation.ports import ListState, NewRevocation, PublishedList
from keyreeve_chassis.processes import failpoints
from support.databases import CaBench
from support.ledger_entries import NOW, Block

SHARD = ("estate-1", 0)


def a_list(number: int, seq: int) -> PublishedList:
    return PublishedList(ListState(number, seq, NOW + number, NOW + number + 100), 0, b"list %d" % number)


async def reserve(bench: CaBench) -> int:
    return await bench.store.write(lambda tx: tx.revocations.reserve_list_number(SHARD))


async def publish(bench: CaBench, one: PublishedList) -> bool:
    return await bench.store.write(lambda tx: tx.revocations.publish_list(SHARD, one))


async def current(bench: CaBench) -> PublishedList | None:
    return await bench.store.read(lambda tx: tx.revocations.published_list(SHARD))


async def test_a_reserved_number_is_never_given_twice_and_is_no_list_yet(ca_bench: CaBench) -> None:
    assert [await reserve(ca_bench) for _ in range(3)] == [1, 2, 3]
    assert await current(ca_bench) is None


async def test_a_list_is_replaced_by_a_higher_number_alone(ca_bench: CaBench) -> None:
    await reserve(ca_bench)
    assert await publish(ca_bench, a_list(2, 5))
    assert not await publish(ca_bench, a_list(1, 5)), "made earlier by another coordinator, and late"
    assert not await publish(ca_bench, a_list(2, 5)), "the same number again"
    assert await publish(ca_bench, a_list(3, 5))
    assert await current(ca_bench) == a_list(3, 5)


async def test_a_list_is_not_replaced_by_one_that_knows_less(ca_bench: CaBench) -> None:
    await reserve(ca_bench)
    assert await publish(ca_bench, a_list(1, 7))
    assert not await publish(ca_bench, a_list(2, 6))
    assert await current(ca_bench) == a_list(1, 7)


@pytest.mark.parametrize("name", [lists._RESERVED, lists._PUBLISHING, "ca.commit.before", "ca.commit.after"])
async def test_a_failure_at_any_durable_step_leaves_a_number_out_and_nothing_else(
    ca_bench: CaBench, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await reserve(ca_bench)
    await publish(ca_bench, a_list(1, 1))
    failpoints.arm({failpoints.ALLOW_VARIABLE: "1", failpoints.ARM_VARIABLE: f"{name}=raise@1"})
    try:
        for _ in range(2):
            with suppress(StoreUnavailable):
                await publish(ca_bench, a_list(await reserve(ca_bench), 2))
    finally:
        failpoints.arm({})
    found = await current(ca_bench)
    assert found is not None
    assert found.state.number in (2, 3)
    assert await reserve(ca_bench) > found.state.number


async def test_revocations_are_numbered_without_gaps_and_each_shard_knows_its_last(ca_bench: CaBench) -> None:
    block = await Block.leased(ca_bench.ledger)
    claims = [block.claim() for _ in range(3)]
    await ca_bench.ledger.commit(block.group(*claims))
    serials = await ca_bench.stored()

    def revoke(serial: bytes) -> NewRevocation:
        return NewRevocation(serial, "estate-1", NOW + 86_400, CrlReason.SUPERSEDED, NOW, "someone")

    first = await ca_bench.store.write(lambda tx: tx.revocations.add([revoke(serials[0])]))
    rest = await ca_bench.store.write(lambda tx: tx.revocations.add([revoke(one) for one in serials[1:]]))
    assert [one.seq for one in first + rest] == [1, 2, 3]
    assert await ca_bench.store.read(lambda tx: tx.revocations.changed_shards(0)) == {SHARD: 3}
    assert await ca_bench.store.read(lambda tx: tx.revocations.changed_shards(3)) == {}

    async def listed(after: int, limit: int, expiring_from: int = NOW) -> list[tuple[bytes, int]]:
        rows = await ca_bench.store.read(
            lambda tx: tx.revocations.listed(SHARD, expiring_from=expiring_from, after=after, limit=limit)
        )
        return [(row[0], row[3]) for row in rows]

    numbered = [(one.serial, one.seq) for one in first + rest]
    assert await listed(0, 2) == numbered[:2]
    assert await listed(2, 2) == numbered[2:]
    assert not await listed(0, 2, NOW + 90_000)
