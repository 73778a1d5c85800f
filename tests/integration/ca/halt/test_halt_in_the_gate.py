"""Halted issuance in the commit gate, on both databases, including races."""

import asyncio
import time
from dataclasses import replace

import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from keyreeve import errors
from keyreeve.identity import Role
from keyreeve_ca.blocked_keys.service import KeyBlocking
from keyreeve_ca.halt.service import HaltState, HaltSwitch
from keyreeve_ca.ledger.commit_rules import ADVISORY_KEY
from keyreeve_ca.ledger.ports import CommitGroup, Committed, GateClosed, InProcess, ItemFailure
from keyreeve_ca.operators.ports import APPROVAL_SECONDS, Actor, Operator
from support.databases import CaBench, CaDatabase
from support.ledger_entries import NOW, Block, block_request

ANN, BEA = (Actor(f"spiffe://example.test/operators/admin/{name}", name) for name in ("ann", "bea"))
SWITCH = HaltSwitch(lambda: NOW, resume_needs_two=False)
BY_TWO = HaltSwitch(lambda: NOW, resume_needs_two=True)


async def admit(bench: CaBench) -> None:
    """Make both persons admins."""
    for name in ("ann", "bea"):
        admin = Operator(name, name, Role.ADMIN, created_at=0, invited_at=0, invited_by="", since=0)
        await bench.store.write(lambda tx, admin=admin: tx.operators.add(admin))


async def halt(bench: CaBench) -> HaltState:
    return await bench.store.write(lambda tx: SWITCH.halt(tx, ANN, "a key may be out"))


async def test_a_group_that_came_over_the_network_is_refused_while_issuance_is_halted(ca_bench: CaBench) -> None:
    block = await Block.leased(ca_bench.ledger)
    await halt(ca_bench)
    with pytest.raises(GateClosed, match="halted"):
        await ca_bench.ledger.commit(block.group())
    assert await ca_bench.stored() == []


async def test_what_the_ca_issues_to_itself_is_committed_while_issuance_is_halted(ca_bench: CaBench) -> None:
    block = await Block.leased(ca_bench.ledger)
    await halt(ca_bench)
    own = replace(block.claim(), origin=InProcess())
    assert isinstance((await ca_bench.ledger.commit(block.group(own)))[0], Committed)
    mixed = block.group(replace(block.claim(), origin=InProcess()), block.claim())
    with pytest.raises(GateClosed, match="halted"):
        await ca_bench.ledger.commit(mixed)
    assert len(await ca_bench.stored()) == 1


async def test_no_block_is_leased_and_no_ca_certificate_begun_while_issuance_is_halted(ca_bench: CaBench) -> None:
    await halt(ca_bench)
    with pytest.raises(GateClosed, match="halted"):
        await ca_bench.ledger.lease_block(block_request())
    with pytest.raises(errors.IssuanceHalted):
        await ca_bench.store.write(lambda tx: tx.reserve_block(block_request()))
    await ca_bench.ledger.lease_block(block_request(exemption=InProcess()))
    await ca_bench.store.write(lambda tx: tx.reserve_block(block_request(exemption=InProcess())))


async def test_a_certificate_signed_before_its_key_was_blocked_does_not_enter_the_ledger(ca_bench: CaBench) -> None:
    block = await Block.leased(ca_bench.ledger)
    lost, other = block.certificate(), block.certificate()
    group = block.group(block.claim(lost), block.claim(other))
    await ca_bench.store.write(lambda tx: KeyBlocking(lambda: NOW).block(tx, ANN, lost.spki_sha256, "lost"))
    refused, committed = await ca_bench.ledger.commit(group)
    assert isinstance(refused, Committed)
    assert [item.reason for item in refused.items if isinstance(item, ItemFailure)] == ["KEY_BLOCKED"]
    assert isinstance(committed, Committed)
    assert await ca_bench.stored() == [other.serial]


async def test_a_halted_group_can_be_committed_after_the_resumption(ca_bench: CaBench) -> None:
    block = await Block.leased(ca_bench.ledger)
    await halt(ca_bench)
    group = block.group()
    with pytest.raises(GateClosed):
        await ca_bench.ledger.commit(group)
    await ca_bench.store.write(lambda tx: SWITCH.resume(tx, ANN, "it was not"))
    assert isinstance((await ca_bench.ledger.commit(group))[0], Committed)


async def test_nothing_enters_after_a_halt_that_races_with_many_commits(ca_bench: CaBench) -> None:
    ledgers = [ca_bench.ledger, ca_bench.another_ledger(), ca_bench.another_ledger()]
    blocks = [await Block.leased(ledger) for ledger in ledgers]
    when_halted: list[int] = []
    refusals: list[str] = []
    enough = asyncio.Event()

    async def load(at: int) -> None:
        while True:
            group: CommitGroup = blocks[at].group()
            try:
                await ledgers[at].commit(group)
            except GateClosed as closed:
                refusals.append(closed.why)
                return
            if await ca_bench.count("certificates") > 20:
                enough.set()

    async def stop() -> None:
        await enough.wait()
        await halt(ca_bench)
        when_halted.append(await ca_bench.count("certificates"))

    await asyncio.gather(*(load(at) for at in range(len(ledgers))), stop())
    assert refusals == ["halted"] * 3
    assert when_halted == [await ca_bench.count("certificates")]


async def test_a_process_that_stops_in_the_middle_of_a_commit_holds_no_halt_up(postgresql_database: CaDatabase) -> None:
    bench = await CaBench.on(postgresql_database)
    engine = postgresql_database.database().engine
    with engine.connect() as frozen:
        frozen.execute(text("SELECT pg_advisory_xact_lock_shared(:key)"), {"key": ADVISORY_KEY})
        frozen.execute(text("UPDATE control_plane SET restore_generation = 9"))
        began = time.monotonic()
        assert (await halt(bench)).halted
        assert time.monotonic() - began < 2.0
        with pytest.raises(OperationalError):
            frozen.commit()
        frozen.invalidate()
    control_plane = await bench.store.read(lambda tx: tx.control_plane())
    assert control_plane is not None
    assert control_plane.restore_generation == 1


async def test_the_halt_raises_the_version_that_every_process_follows(ca_bench: CaBench) -> None:
    before = await ca_bench.store.read(lambda tx: tx.control_plane())
    await halt(ca_bench)
    after = await ca_bench.store.read(lambda tx: tx.control_plane())
    assert before is not None
    assert after is not None
    assert after.config_version == before.config_version + 1


async def test_who_halted_and_why_is_kept_and_a_second_halt_does_not_replace_it(ca_bench: CaBench) -> None:
    first = await halt(ca_bench)
    assert first == HaltState(True, NOW, ANN.identity, "a key may be out")
    await ca_bench.store.write(lambda tx: SWITCH.halt(tx, BEA, "me too"))
    assert await ca_bench.store.read(lambda tx: tx.halt.state()) == first
    await ca_bench.store.write(lambda tx: SWITCH.resume(tx, BEA, "it was not"))
    state = await ca_bench.store.read(lambda tx: tx.halt.state())
    assert state == replace(first, halted=False, resumed_at=NOW, resumed_by=BEA.identity, resume_reason="it was not")


async def test_one_person_with_two_certificates_does_not_resume_what_needs_two_persons(ca_bench: CaBench) -> None:
    await admit(ca_bench)
    await halt(ca_bench)
    state = await ca_bench.store.write(lambda tx: BY_TWO.resume(tx, ANN, "it was not"))
    assert state.halted
    assert state.approved_by == ANN.identity
    second_person = Actor("spiffe://example.test/operators/operator/ann", "ann")
    with pytest.raises(errors.SecondPersonRequired):
        await ca_bench.store.write(lambda tx: BY_TWO.resume(tx, second_person, "really"))
    resumed = await ca_bench.store.write(lambda tx: BY_TWO.resume(tx, BEA, "I agree"))
    assert not resumed.halted


async def test_another_halt_withdraws_the_approval(ca_bench: CaBench) -> None:
    await halt(ca_bench)
    await ca_bench.store.write(lambda tx: BY_TWO.resume(tx, ANN, "it was not"))
    await ca_bench.store.write(lambda tx: BY_TWO.halt(tx, BEA, "it was"))
    assert (await ca_bench.store.write(lambda tx: BY_TWO.resume(tx, BEA, "or not"))).halted


async def test_an_approval_is_good_for_an_hour(ca_bench: CaBench) -> None:
    await admit(ca_bench)
    await halt(ca_bench)
    await ca_bench.store.write(lambda tx: BY_TWO.resume(tx, ANN, "it was not"))
    late = HaltSwitch(lambda: NOW + APPROVAL_SECONDS + 1, resume_needs_two=True)
    assert (await ca_bench.store.write(lambda tx: late.resume(tx, BEA, "I agree"))).halted
    assert not (await ca_bench.store.write(lambda tx: late.resume(tx, ANN, "so do I"))).halted


async def test_what_is_not_halted_cannot_be_resumed(ca_bench: CaBench) -> None:
    with pytest.raises(errors.IssuanceNotHalted):
        await ca_bench.store.write(lambda tx: SWITCH.resume(tx, ANN, "why not"))


@pytest.mark.parametrize("reason", ["", "   ", "a\nb", "x" * 501, "\u202edesrever"])
async def test_a_reason_that_cannot_be_shown_is_refused(sqlite_database: CaDatabase, reason: str) -> None:
    bench = await CaBench.on(sqlite_database)
    with pytest.raises(errors.FieldInvalid):
        await bench.store.write(lambda tx: SWITCH.halt(tx, ANN, reason))
