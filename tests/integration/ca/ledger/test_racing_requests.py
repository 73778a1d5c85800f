"""Races for one request id, key, certificate or renewal: one wins, and the other gets its outcome."""

import asyncio
from collections.abc import Sequence

import pytest

from keyreeve_ca.ledger.ports import AlreadyAnswered, CommitGroup, Committed, GateClosed, ItemFailure, RequestOutcome
from keyreeve_ca.ledger.postgresql import PostgresqlLedger
from keyreeve_ca.store.ports import CertificateFilter
from support.databases import CaBench, CaDatabase
from support.ledger_entries import CALLER, METHOD, Block, block_request, request_id

KEY = b"\x07" * 32


async def both(ca_bench: CaBench, first: CommitGroup, second: CommitGroup) -> list[RequestOutcome]:
    """Commit two groups of one request each at the same time, over two connections where there can be two."""
    other = ca_bench.another_ledger()
    answers = await asyncio.gather(ca_bench.ledger.commit(first), other.commit(second))
    return [outcome for [outcome] in answers]


def winner_and_loser(outcomes: Sequence[RequestOutcome]) -> tuple[int, Committed, AlreadyAnswered]:
    [at] = [n for n, o in enumerate(outcomes) if isinstance(o, Committed)]
    won, lost = outcomes[at], outcomes[1 - at]
    assert isinstance(won, Committed)
    assert isinstance(lost, AlreadyAnswered)
    return at, won, lost


@pytest.mark.parametrize("round_", range(5))
async def test_of_two_writers_with_one_request_id_one_stores_and_both_know_its_serial(
    ca_bench: CaBench, round_: int
) -> None:
    one, two = await Block.leased(ca_bench.ledger), await Block.leased(ca_bench.ledger)
    same = request_id()
    groups = [b.group(b.claim(identifier=same)) for b in (one, two)]
    _, won, lost = winner_and_loser(await both(ca_bench, *groups))
    assert lost.items == won.items
    assert await ca_bench.stored() == list(won.items)


async def test_one_group_may_hold_one_request_id_twice(ca_bench: CaBench) -> None:
    block = await Block.leased(ca_bench.ledger)
    same = request_id()
    claims = [block.claim(identifier=same), block.claim(identifier=same, payload=b"O" * 32), block.claim()]
    first, second, third = await ca_bench.ledger.commit(block.group(*claims))
    assert isinstance(first, Committed)
    assert second == AlreadyAnswered(b"H" * 32, first.items)
    assert isinstance(third, Committed)
    assert sorted(await ca_bench.stored()) == sorted([*first.items, *third.items])


async def test_the_loser_of_another_payload_sees_the_winners_hash(ca_bench: CaBench) -> None:
    block, same = await Block.leased(ca_bench.ledger), request_id()
    [first] = await ca_bench.ledger.commit(block.group(block.claim(identifier=same)))
    [second] = await ca_bench.ledger.commit(block.group(block.claim(identifier=same, payload=b"O" * 32)))
    assert second == AlreadyAnswered(b"H" * 32, first.items)
    answered = await ca_bench.store.read(lambda tx: tx.answered(CALLER, METHOD, same))
    assert answered is not None
    assert (answered.payload_sha256, answered.items, answered.response) == (b"H" * 32, first.items, None)


@pytest.mark.parametrize("round_", range(5))
async def test_of_two_identities_with_one_key_one_gets_a_certificate(ca_bench: CaBench, round_: int) -> None:
    one, two = await Block.leased(ca_bench.ledger), await Block.leased(ca_bench.ledger)
    groups = [
        b.group(b.claim(b.certificate(spki_sha256=KEY, identity=name, binds_key=True)))
        for b, name in ((one, "spiffe://example.test/a"), (two, "spiffe://example.test/b"))
    ]
    outcomes = await both(ca_bench, *groups)
    items = [o.items[0] for o in outcomes if isinstance(o, Committed)]
    [serial] = [i for i in items if isinstance(i, bytes)]
    [failure] = [i for i in items if isinstance(i, ItemFailure)]
    assert failure.reason == "KEY_REUSED"
    assert "spiffe" not in failure.message
    assert await ca_bench.stored() == [serial]


async def test_one_group_may_hold_one_key_for_two_identities(ca_bench: CaBench) -> None:
    block = await Block.leased(ca_bench.ledger)
    claim = block.claim(
        block.certificate(spki_sha256=KEY, identity="a", binds_key=True),
        block.certificate(spki_sha256=KEY, identity="b", binds_key=True),
        block.certificate(spki_sha256=KEY, identity="a", binds_key=True),
        block.certificate(spki_sha256=KEY, identity="c"),
    )
    [outcome] = await ca_bench.ledger.commit(block.group(claim))
    assert [isinstance(i, bytes) for i in outcome.items] == [True, False, True, True]


async def test_a_request_of_which_nothing_is_left_is_not_claimed(ca_bench: CaBench) -> None:
    block, same = await Block.leased(ca_bench.ledger), request_id()
    await ca_bench.ledger.commit(
        block.group(block.claim(block.certificate(spki_sha256=KEY, identity="a", binds_key=True)))
    )
    taken = block.certificate(spki_sha256=KEY, identity="b", binds_key=True)
    [refused] = await ca_bench.ledger.commit(block.group(block.claim(taken, identifier=same)))
    assert isinstance(refused.items[0], ItemFailure)
    assert await ca_bench.store.read(lambda tx: tx.answered(CALLER, METHOD, same)) is None
    [again] = await ca_bench.ledger.commit(block.group(block.claim(identifier=same, payload=b"O" * 32)))
    assert isinstance(again, Committed)


async def test_a_request_with_failures_alone_is_answered_and_not_claimed(ca_bench: CaBench) -> None:
    block, same = await Block.leased(ca_bench.ledger), request_id()
    failure = ItemFailure("NAME_REFUSED", "no", {"name": "x"})
    block.counter = 0
    [outcome] = await ca_bench.ledger.commit(block.group(block.claim(failure, identifier=same)))
    assert outcome == Committed((failure,))
    assert await ca_bench.store.read(lambda tx: tx.answered(CALLER, METHOD, same)) is None


async def test_a_request_that_lost_an_item_is_repeated_as_it_was_answered(ca_bench: CaBench) -> None:
    block, same = await Block.leased(ca_bench.ledger), request_id()
    await ca_bench.ledger.commit(
        block.group(block.claim(block.certificate(spki_sha256=KEY, identity="a", binds_key=True)))
    )
    items = (
        block.certificate(),
        ItemFailure("NAME_REFUSED", "no", {}),
        block.certificate(spki_sha256=KEY, identity="b", binds_key=True),
    )
    [first] = await ca_bench.ledger.commit(block.group(block.claim(*items, identifier=same)))
    assert [getattr(i, "reason", "serial") for i in first.items] == ["serial", "NAME_REFUSED", "KEY_REUSED"]
    [again] = await ca_bench.ledger.commit(block.group(block.claim(identifier=same)))
    assert again == AlreadyAnswered(b"H" * 32, first.items)


@pytest.mark.parametrize("round_", range(5))
async def test_of_two_renewals_for_two_keys_one_is_superseded(ca_bench: CaBench, round_: int) -> None:
    one, two = await Block.leased(ca_bench.ledger), await Block.leased(ca_bench.ledger)
    old = one.certificate()
    await ca_bench.ledger.commit(one.group(one.claim(old)))
    groups = [b.group(b.claim(b.certificate(renews=old.serial))) for b in (one, two)]
    items = [o.items[0] for o in await both(ca_bench, *groups)]
    [serial] = [i for i in items if isinstance(i, bytes)]
    [failure] = [i for i in items if isinstance(i, ItemFailure)]
    assert failure.reason == "RENEWAL_SUPERSEDED"
    successor = await ca_bench.store.read(lambda tx: tx.successor(old.serial))
    assert successor is not None
    assert successor.serial == serial
    assert await ca_bench.stored() == sorted([old.serial, serial])


@pytest.mark.parametrize("round_", range(5))
async def test_of_two_renewals_for_one_key_both_get_the_same_certificate(ca_bench: CaBench, round_: int) -> None:
    one, two = await Block.leased(ca_bench.ledger), await Block.leased(ca_bench.ledger)
    old = one.certificate()
    await ca_bench.ledger.commit(one.group(one.claim(old)))
    groups = [b.group(b.claim(b.certificate(renews=old.serial, spki_sha256=KEY))) for b in (one, two)]
    first, second = await both(ca_bench, *groups)
    assert isinstance(first, Committed)
    assert first == second
    assert await ca_bench.stored() == sorted([old.serial, *first.items])


async def test_two_renewals_in_one_group_are_settled_as_in_two(ca_bench: CaBench) -> None:
    block = await Block.leased(ca_bench.ledger)
    old = block.certificate()
    await ca_bench.ledger.commit(block.group(block.claim(old)))
    new = [block.certificate(renews=old.serial, spki_sha256=key) for key in (KEY, KEY, b"\x08" * 32)]
    first, same_key, other_key = await ca_bench.ledger.commit(block.group(*(block.claim(c) for c in new)))
    assert same_key == first
    assert other_key.items[0].reason == "RENEWAL_SUPERSEDED"
    assert await ca_bench.count("certificates") == 2


async def test_a_renewal_whose_key_is_anothers_does_not_count_as_one(ca_bench: CaBench) -> None:
    block = await Block.leased(ca_bench.ledger)
    old = block.certificate()
    taken = block.certificate(spki_sha256=KEY, identity="a", binds_key=True)
    await ca_bench.ledger.commit(block.group(block.claim(old), block.claim(taken)))
    new = [
        block.certificate(renews=old.serial, spki_sha256=KEY, identity="b", binds_key=True),
        block.certificate(renews=old.serial, spki_sha256=KEY, identity="b", binds_key=True),
    ]
    outcomes = await ca_bench.ledger.commit(block.group(*(block.claim(c) for c in new)))
    assert [o.items[0].reason for o in outcomes] == ["KEY_REUSED", "KEY_REUSED"]
    assert await ca_bench.count("renewals") == 0
    [renewed] = await ca_bench.ledger.commit(block.group(block.claim(block.certificate(renews=old.serial))))
    assert isinstance(renewed.items[0], bytes)


async def test_many_writers_with_overlapping_keys_and_ids_finish_without_a_deadlock(ca_bench: CaBench) -> None:
    ledgers = [ca_bench.another_ledger() for _ in range(4)]
    ids = [request_id() for _ in range(20)]
    blocks = [await Block.leased(ca_bench.ledger) for _ in ledgers]

    async def commit(n: int) -> list[RequestOutcome]:
        outcomes: list[RequestOutcome] = []
        for turn in range(4):
            order = ids if (n + turn) % 2 else ids[::-1]
            claims = [
                blocks[n].claim(
                    blocks[n].certificate(spki_sha256=bytes([i]) * 32, identity=f"{n}", binds_key=True),
                    identifier=f"{turn}{identifier[1:]}",
                )
                for i, identifier in enumerate(order)
            ]
            outcomes += await ledgers[n].commit(blocks[n].group(*claims))
        return outcomes

    outcomes = await asyncio.gather(*(commit(n) for n in range(len(ledgers))))
    stored = await ca_bench.store.read(lambda tx: tx.certificates(CertificateFilter(), after=b"", limit=10_000))
    committed = {i for o in outcomes for x in o if isinstance(x, Committed) for i in x.items if isinstance(i, bytes)}
    assert {row.serial for row in stored} == committed
    owners = {row.spki_sha256: row.identity for row in stored}
    assert all(owners[row.spki_sha256] == row.identity for row in stored)
    assert len({(row.caller, row.request_id) for row in stored}) == len(stored)


async def test_a_worker_whose_lease_of_life_has_expired_gets_no_block_and_loses_its_own(
    postgresql_database: CaDatabase,
) -> None:
    ca_bench = await CaBench.on(postgresql_database)
    ledger = ca_bench.ledger
    assert isinstance(ledger, PostgresqlLedger)
    block = await Block.leased(ledger)
    assert await ledger.extend_worker("worker-1", 60)
    assert await ledger.void_orphans() == 0
    await ca_bench.execute("UPDATE workers SET expires_at = 1")
    assert not await ledger.extend_worker("worker-1", 60)
    with pytest.raises(GateClosed, match="worker"):
        await ledger.lease_block(block_request())
    assert await ledger.void_orphans() == 1
    with pytest.raises(GateClosed, match="block"):
        await ledger.commit(block.group())
