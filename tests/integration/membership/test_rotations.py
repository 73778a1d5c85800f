"""Rotations over real mutual TLS on both databases: what each phase waits for, evidence, waivers, roll-back, quarantine."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from keyreeve import errors
from keyreeve.membership_values import Evidence, MemberState, Rotation, RotationKind, RotationPhase
from keyreeve.operation_values import OperationState
from keyreeve.values import KeyType
from keyreeve_membership.authorities.ports import CaState
from keyreeve_membership.peers.dialing import PeerDialer
from keyreeve_membership.peers.ports import PeerAnswer
from keyreeve_membership.store.ports import Transaction
from support.membership import Agent, RunningMembership, fresh_url
from support.peer_certificates import TRUST_DOMAIN
from support.silent_port import silent_port
from support.waiting import moment


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.faults)])
def membership_url(request: pytest.FixtureRequest) -> str:
    return fresh_url(request.param, request)


async def in_phase(
    membership: RunningMembership, name: str, phase: RotationPhase, agents: list[Agent], seconds: float = 20
) -> Rotation:
    """Let agents do their part until a rotation is in a phase."""
    rotations = (await membership.client()).membership.rotations
    async with asyncio.timeout(seconds):
        while (found := await rotations.get(name)).phase is not phase:
            for agent in agents:
                await agent.turn()
            await moment()
    return found


async def test_a_promotion_changes_primary_and_ca_and_every_certificate(membership: RunningMembership) -> None:
    one, two, three = agents = await membership.array_of("one.example.test", "two.example.test", "three.example.test")
    admin = (await membership.client()).membership
    before = await admin.arrays.get(one.array)
    begun = await one.client.membership.arrays.promote(two.name)
    assert (await membership.until(begun.name, agents)).state is OperationState.SUCCEEDED
    after = await admin.arrays.get(one.array)
    assert (after.primary, after.change) == (two.resource, "")
    assert after.authority != before.authority
    assert {agent.authority for agent in agents} == {after.authority}
    assert set(after.backup_primaries) == {one.resource, three.resource}
    old = before.authority.removeprefix("authorities/")
    assert membership.authorities.known[old].state is CaState.RETIRED
    epochs = [epoch async for epoch in admin.bundles.epochs(one.array)]
    assert [epoch.epoch for epoch in epochs] == [1, 2, 3]
    assert [len(epoch.authorities) for epoch in epochs] == [1, 2, 1]
    assert all(later.previous_digest == earlier.digest for earlier, later in pairwise(epochs))
    [rotation] = [found async for found in admin.rotations.list(array=one.array)]
    assert (rotation.kind, rotation.phase) == (RotationKind.PROMOTE, RotationPhase.DISTRUSTED)
    assert rotation.ended_at is not None
    new = after.authority.removeprefix("authorities/")
    assert {name for name, authority in membership.peers.checked if authority == new} == {a.name for a in agents}
    ordered = [what for what, authority, _ in membership.authorities.orders if authority == new]
    assert ordered == ["create", "introduce", "activate"]
    members = [member async for member in admin.members.list(array=one.array)]
    assert [member.name for member in members if member.primary] == [two.resource]


async def test_a_change_of_algorithm_ends_with_a_ca_of_the_other_key_type(membership: RunningMembership) -> None:
    one = await membership.agent("one.example.test")
    await one.turn()
    admin = (await membership.client()).membership
    started = await admin.rotations.start(one.array, RotationKind.ALGORITHM_CHANGE, key_type=KeyType.P384)
    assert (await membership.until(started.operation, [one])).state is OperationState.SUCCEEDED
    authority = (await admin.arrays.get(one.array)).authority
    assert one.authority == authority
    assert membership.authorities.key_types[authority.removeprefix("authorities/")] == KeyType.P384


async def test_no_ca_issues_before_every_member_has_shown_that_it_trusts_it(membership: RunningMembership) -> None:
    one, two = agents = await membership.array_of("one.example.test", "two.example.test")
    admin = (await membership.client()).membership
    membership.peers.problems[two.name] = "UNAVAILABLE: certificate unknown"
    started = await admin.rotations.start(one.array, RotationKind.SCHEDULED)
    rotation = await in_phase(membership, started.name, RotationPhase.DISTRIBUTED, agents)
    async with asyncio.timeout(20):
        while not any("peer port" in member.waiting for member in rotation.members):
            await two.turn()
            await one.turn()
            rotation = await admin.rotations.get(started.name)
    evidence = {member.member: member.evidence for member in rotation.members}
    assert evidence[two.resource] is Evidence.STATEMENT
    new = rotation.new_authority.removeprefix("authorities/")
    assert membership.authorities.known[new].state is CaState.INTRODUCED
    async with asyncio.timeout(20):
        while [w.resource for w in (await admin.operations.get(rotation.operation)).waiting] != [two.resource]:
            await one.turn()

    waived = await admin.rotations.waive(started.name, member=two.name)
    assert any(member.waived for member in waived.members)
    await membership.until(rotation.operation, agents)
    assert (await admin.rotations.get(started.name)).phase is RotationPhase.DISTRUSTED


async def test_a_peer_port_that_is_silent_after_the_handshake_is_no_evidence_and_its_member_is_named(
    membership: RunningMembership, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = agents = await membership.array_of("one.example.test", "two.example.test")
    admin, authorities, others = (await membership.client()).membership, membership.authorities, membership.peers.check
    dialer = PeerDialer(authorities, TRUST_DOMAIN, seconds=0.3)
    old = authorities.cas[two.authority.removeprefix("authorities/")]
    leaf = old.leaf(dns=[two.name], common_name=two.name)
    started = await admin.rotations.start(one.array, RotationKind.SCHEDULED)
    rotation = await in_phase(membership, started.name, RotationPhase.DISTRIBUTED, [])
    new = rotation.new_authority.removeprefix("authorities/")
    async with silent_port(leaf, authorities.cas[new].pem, tmp_path) as port:

        async def check(member: str, address: str, **asked: Any) -> PeerAnswer:
            if member != two.name:
                return await others(member, address, **asked)
            return await dialer.check(member, port.address, **asked)

        monkeypatch.setattr(membership.peers, "check", check)
        async with asyncio.timeout(20):
            waiting: Any = ()
            while not port.callers or "DEADLINE_EXCEEDED" not in str(waiting):
                waiting = (await admin.operations.get(rotation.operation)).waiting
                for agent in agents:
                    await agent.turn()
    assert [(found.resource, found.reason.partition(":")[0]) for found in waiting] == [
        (two.resource, "answer on its peer port")
    ]
    rotation = await admin.rotations.get(started.name)
    assert {found.member: found.evidence for found in rotation.members}[two.resource] is Evidence.STATEMENT
    assert (rotation.phase, authorities.known[new].state) == (RotationPhase.DISTRIBUTED, CaState.INTRODUCED)
    monkeypatch.undo()
    assert (await membership.until(rotation.operation, agents)).state is OperationState.SUCCEEDED


async def test_an_acknowledgement_of_another_boot_does_not_count(membership: RunningMembership) -> None:
    one, two = agents = await membership.array_of("one.example.test", "two.example.test")
    admin = (await membership.client()).membership
    started = await admin.rotations.start(one.array, RotationKind.SCHEDULED)
    await in_phase(membership, started.name, RotationPhase.DISTRIBUTED, [one])
    await two.report()
    membership.peers.problems[two.name] = "UNAVAILABLE: not before it has restarted"  # or this boot would do
    await two.load()
    two.boot_id = "f" * 32  # it restarts, and has not loaded the epoch again
    await two.report()

    async def waiting() -> str:
        found = await admin.rotations.get(started.name)
        return {member.member: member.waiting for member in found.members}[two.resource]

    async with asyncio.timeout(20):
        while not (await waiting()).startswith("load epoch"):
            await moment()
    del membership.peers.problems[two.name]
    await two.load()
    await membership.until(started.operation, agents)


async def test_a_member_that_was_put_back_to_a_snapshot_holds_a_rotation_by_name(membership: RunningMembership) -> None:
    one, two = agents = await membership.array_of("one.example.test", "two.example.test")
    admin = (await membership.client()).membership
    before = two.epoch
    assert before is not None
    started = await admin.rotations.start(one.array, RotationKind.SCHEDULED)
    await in_phase(membership, started.name, RotationPhase.DISTRIBUTED, [one])
    await two.report()
    await two.load()
    # The machine with its memory is put back: the same boot has loaded an earlier epoch.
    two.epoch = before
    await two.client.membership.rotations.acknowledge(
        two.name, two.array, boot_id=two.boot_id, epoch=before.epoch, digest=before.digest
    )
    await one.turn()
    rotation = await admin.rotations.get(started.name)
    assert rotation.phase is RotationPhase.DISTRIBUTED
    assert {member.member: member.waiting for member in rotation.members}[two.resource].startswith("load epoch")
    await membership.until(rotation.operation, agents)
    assert (await admin.rotations.get(started.name)).phase is RotationPhase.DISTRUSTED


async def test_a_cloned_member_holds_a_rotation_until_it_is_quarantined(membership: RunningMembership) -> None:
    one, two = await membership.array_of("one.example.test", "two.example.test")
    admin = (await membership.client()).membership
    first = two.boot_id
    two.boot_id = "c" * 32
    await two.report()
    two.boot_id = first
    with pytest.raises(errors.ClonedMember):
        await two.report()
    started = await admin.rotations.start(one.array, RotationKind.EMERGENCY)
    rotation = await in_phase(membership, started.name, RotationPhase.DISTRIBUTED, [one])
    await one.turn()
    rotation = await admin.rotations.get(started.name)
    assert {member.member: "two boots" in member.waiting for member in rotation.members}[two.resource]
    await admin.members.quarantine(two.name, "the disk was copied")
    ended = await membership.until(rotation.operation, [one])
    assert ended.state is OperationState.SUCCEEDED
    member = await admin.members.get(two.name)
    assert member.state is MemberState.QUARANTINED
    with pytest.raises(errors.ClonedMember):
        await two.report()
    await admin.members.readmit(two.name)
    await two.turn()
    assert (await admin.members.get(two.name)).state is MemberState.MEMBER
    assert two.authority == (await admin.arrays.get(one.array)).authority


async def test_no_ca_is_distrusted_while_a_peer_port_presents_a_certificate_of_it(
    membership: RunningMembership,
) -> None:
    agent = await membership.agent("one.example.test")
    await agent.turn()
    admin = (await membership.client()).membership
    started = await admin.rotations.start(agent.array, RotationKind.SCHEDULED)
    await in_phase(membership, started.name, RotationPhase.ACTIVATED, [agent])
    membership.peers.problems[agent.name] = "UNAVAILABLE: certificate verify failed"
    await in_phase(membership, started.name, RotationPhase.REISSUED, [agent])
    async with asyncio.timeout(20):
        while not (waiting := (await admin.operations.get(started.operation)).waiting):
            await agent.turn()
    assert waiting[0].reason.startswith("present a certificate of")
    membership.peers.problems.clear()
    assert (await membership.until(started.operation, [agent])).state is OperationState.SUCCEEDED


async def test_a_check_counts_for_the_start_of_the_agent_that_has_reported(membership: RunningMembership) -> None:
    agent = await membership.agent("one.example.test")
    await agent.turn()
    admin = (await membership.client()).membership
    started = await admin.rotations.start(agent.array, RotationKind.SCHEDULED)
    await in_phase(membership, started.name, RotationPhase.DISTRIBUTED, [])
    await agent.report()
    membership.peers.boots[agent.name] = "f" * 32
    await agent.load()
    async with asyncio.timeout(20):
        while "another start" not in (rotation := await admin.rotations.get(started.name)).members[0].waiting:
            await moment()
    assert rotation.phase is RotationPhase.DISTRIBUTED
    assert (await membership.until(rotation.operation, [agent])).state is OperationState.SUCCEEDED


async def test_a_cloned_server_that_stands_alone_is_taken_back(membership: RunningMembership) -> None:
    agent = await membership.agent("one.example.test")
    await agent.turn()
    admin = (await membership.client()).membership
    with pytest.raises(errors.MemberStateWrong):
        await admin.members.readmit(agent.name)
    started = await admin.rotations.start(agent.array, RotationKind.SCHEDULED)
    first, agent.boot_id = agent.boot_id, "c" * 32
    await agent.report()
    agent.boot_id = first
    with pytest.raises(errors.ClonedMember):
        await agent.report()
    assert (await admin.members.readmit(agent.name)).state is MemberState.STANDALONE
    assert (await membership.until(started.operation, [agent])).state is OperationState.SUCCEEDED


async def test_a_dead_primary_holds_a_rotation_until_it_is_quarantined_and_is_replaced_by_another(
    membership: RunningMembership,
) -> None:
    one, two = agents = await membership.array_of("one.example.test", "two.example.test")
    admin = (await membership.client()).membership
    with pytest.raises(errors.PrimaryCannotDetach):
        await admin.members.quarantine(one.name, "no rotation waits for it")
    started = await admin.rotations.start(one.array, RotationKind.SCHEDULED)
    membership.authorities.hold_reissue = True
    await in_phase(membership, started.name, RotationPhase.ACTIVATED, agents)
    for agent in agents:
        await agent.turn()
    membership.authorities.hold_reissue = False
    rotation = await in_phase(membership, started.name, RotationPhase.DISTRUSTED, [two])
    await two.turn()
    rotation = await admin.rotations.get(started.name)
    assert {found.member: bool(found.waiting) for found in rotation.members}[one.resource]
    with pytest.raises(errors.RotationStateWrong):
        await admin.rotations.roll_back(started.name)
    await admin.members.quarantine(one.name, "it burnt down")
    assert (await membership.until(rotation.operation, [two])).state is OperationState.SUCCEEDED

    begun = await admin.arrays.promote(two.name)
    assert (await membership.until(begun.name, [two])).state is OperationState.SUCCEEDED
    assert (await admin.arrays.get(one.array)).primary == two.resource
    history = [event async for event in admin.members.history(one.name, page_size=2)]
    assert [event.event for event in history] == ["registered", "joined by another", "quarantined", "promoted"]
    assert [event.revision for event in history] == sorted(event.revision for event in history)
    assert history[2].actor.endswith("/operators/admin/ann")
    assert (history[2].comment, history[2].array) == ("it burnt down", one.array)
    with pytest.raises(errors.MemberNotFound):
        await anext(admin.members.history("nobody.example.test"))


async def test_a_quarantined_primary_that_is_left_alone_stays_in_quarantine(membership: RunningMembership) -> None:
    one, two = await membership.array_of("one.example.test", "two.example.test")
    admin = (await membership.client()).membership
    started = await admin.rotations.start(one.array, RotationKind.SCHEDULED)
    await admin.members.quarantine(one.name, "it burnt down")
    assert (await membership.until(started.operation, [two])).state is OperationState.SUCCEEDED
    left = await admin.arrays.clean(two.name)
    assert (await membership.until(left.name, [two])).state is OperationState.SUCCEEDED
    assert (await admin.members.get(one.name)).state is MemberState.QUARANTINED
    assert (await admin.members.readmit(one.name)).state is MemberState.STANDALONE


async def test_a_rotation_is_rolled_back_after_activation(membership: RunningMembership) -> None:
    one, two = agents = await membership.array_of("one.example.test", "two.example.test")
    admin = (await membership.client()).membership
    before = await admin.arrays.get(one.array)
    begun = await admin.arrays.promote(two.name)
    name = begun.name.replace("operations/", "rotations/")
    membership.authorities.hold_reissue = True  # nothing superseded is revoked, so that it stays in this phase
    rotation = await in_phase(membership, name, RotationPhase.ACTIVATED, agents)
    assert (await admin.arrays.get(one.array)).primary == two.resource
    rolled = await admin.rotations.roll_back(name)
    assert rolled.phase is RotationPhase.ROLLED_BACK
    membership.authorities.hold_reissue = False
    ended = await membership.until(rotation.operation, agents)
    assert ended.state is OperationState.CANCELLED
    after = await admin.arrays.get(one.array)
    assert (after.primary, after.authority, after.change) == (one.resource, before.authority, "")
    assert {agent.authority for agent in agents} == {before.authority}
    new = rotation.new_authority.removeprefix("authorities/")
    assert membership.authorities.known[new].state is CaState.RETIRED
    assert [len(epoch.authorities) async for epoch in admin.bundles.epochs(one.array)] == [1, 2, 1]
    with pytest.raises(errors.RotationStateWrong):
        await admin.rotations.roll_back(name)


async def test_an_old_ca_is_kept_while_certificates_of_it_are_left_unless_an_admin_waives_them(
    membership: RunningMembership,
) -> None:
    one, two = agents = await membership.array_of("one.example.test", "two.example.test")
    admin = (await membership.client()).membership
    old = (await admin.arrays.get(one.array)).authority.removeprefix("authorities/")
    membership.authorities.issued.append((old, "gone.example.test", "0" * 32))
    started = await admin.rotations.start(one.array, RotationKind.SCHEDULED)
    rotation = await in_phase(membership, started.name, RotationPhase.REISSUED, agents)
    async with asyncio.timeout(20):
        while (rotation := await admin.rotations.get(started.name)).old_certificates != 1:
            await two.turn()
    assert rotation.waiting == "expiry of 1 certificates, or a waiver"
    assert membership.authorities.known[old].state is CaState.ACTIVE
    await admin.rotations.waive(started.name)
    await membership.until(rotation.operation, agents)
    assert membership.authorities.known[old].state is CaState.RETIRED


async def test_an_emergency_goes_on_without_one_late_member_and_not_without_two(
    membership: RunningMembership,
) -> None:
    one, two, three = await membership.array_of("one.example.test", "two.example.test", "three.example.test")
    admin = (await membership.client()).membership
    started = await admin.rotations.start(one.array, RotationKind.EMERGENCY, phase_time=timedelta(seconds=1))
    rotation = await in_phase(membership, started.name, RotationPhase.DISTRIBUTED, [one])
    async with asyncio.timeout(20):
        while len((await admin.operations.get(rotation.operation)).waiting) != 2:
            await one.turn()
    states = {(await admin.members.get(agent.name)).state for agent in (two, three)}
    assert states == {MemberState.MEMBER}, "two of three are beyond the limit"
    ended = await membership.until(rotation.operation, [one, two])
    assert ended.state is OperationState.SUCCEEDED
    assert (await admin.members.get(three.name)).state is MemberState.QUARANTINED


async def test_operators_start_no_emergencies_and_kinds_are_checked(membership: RunningMembership) -> None:
    agent = await membership.agent("one.example.test")
    await agent.turn()
    operator = (await membership.client("operators/operator/olaf")).membership.rotations
    with pytest.raises(errors.AccessDenied):
        await operator.start(agent.array, RotationKind.EMERGENCY)
    for wrong in ({"kind": RotationKind.PROMOTE}, {"kind": RotationKind.ALGORITHM_CHANGE}):
        with pytest.raises(errors.FieldInvalid):
            await operator.start(agent.array, **wrong)
    with pytest.raises(errors.RotationNotFound):
        await operator.get("nothing")


async def test_no_rotation_starts_without_a_member_that_does_not_report(membership: RunningMembership) -> None:
    one = await membership.agent("one.example.test")
    admin = (await membership.client()).membership
    with pytest.raises(errors.MemberUnreachable, match="never"):
        await admin.rotations.start(one.array, RotationKind.SCHEDULED)
    await one.turn()

    def long_ago(tx: Transaction) -> None:
        member = tx.roll.member(one.name)
        report = None if member is None else tx.roll.report(member.member_uid)
        assert report is not None, "it has reported"
        age_ms = (membership.settings.roll.lost_seconds + 1) * 1000
        tx.roll.put_report(replace(report, received_at_ms=report.received_at_ms - age_ms))

    await membership.write(long_ago)
    with pytest.raises(errors.MemberUnreachable, match="last at"):
        await admin.rotations.start(one.array, RotationKind.SCHEDULED)
    assert (await admin.arrays.get(one.array)).change == ""
    assert [found async for found in admin.rotations.list(array=one.array)] == []
    await one.turn()
    started = await admin.rotations.start(one.array, RotationKind.SCHEDULED)
    assert (await membership.until(started.operation, [one])).state is OperationState.SUCCEEDED


async def test_a_rolled_back_rotation_ends_without_a_member_that_never_reported(membership: RunningMembership) -> None:
    one = await membership.agent("one.example.test")
    admin = (await membership.client()).membership
    started = await admin.rotations.start(one.array, RotationKind.EMERGENCY)
    rotation = await in_phase(membership, started.name, RotationPhase.DISTRIBUTED, [])
    assert [member.waiting for member in rotation.members] == ["load epoch 2"]
    await admin.rotations.roll_back(started.name)
    assert (await membership.until(rotation.operation, [])).state is OperationState.CANCELLED
    after = await admin.arrays.get(one.array)
    assert (after.change, after.epoch) == ("", 3)
    await one.turn()
    again = await admin.rotations.start(one.array, RotationKind.SCHEDULED)
    assert (await membership.until(again.operation, [one])).state is OperationState.SUCCEEDED


async def test_an_admin_ends_a_rolled_back_rotation_without_a_member_that_is_gone(
    membership: RunningMembership,
) -> None:
    one = await membership.agent("one.example.test")
    admin = (await membership.client()).membership
    membership.peers.problems[one.name] = "UNAVAILABLE: no answer"
    await one.turn()
    started = await admin.rotations.start(one.array, RotationKind.SCHEDULED)
    await in_phase(membership, started.name, RotationPhase.DISTRIBUTED, [])
    await one.turn()
    async with asyncio.timeout(20):
        while "peer port" not in (await admin.rotations.get(started.name)).members[0].waiting:
            await one.report()
    await admin.rotations.roll_back(started.name)
    async with asyncio.timeout(20):
        while (rotation := await admin.rotations.get(started.name)).final_epoch == 0:
            await one.report()
    assert [member.waiting for member in rotation.members] == ["load epoch 3"]
    with pytest.raises(errors.RotationStateWrong):
        await admin.rotations.waive(started.name)
    await admin.rotations.waive(started.name, member=one.name)
    assert (await membership.until(rotation.operation, [])).state is OperationState.CANCELLED
    assert (await admin.arrays.get(one.array)).change == ""


async def test_a_waiver_of_a_check_does_not_outlast_a_roll_back(membership: RunningMembership) -> None:
    one, two = await membership.array_of("one.example.test", "two.example.test")
    admin = (await membership.client()).membership
    started = await admin.rotations.start(one.array, RotationKind.SCHEDULED)
    await in_phase(membership, started.name, RotationPhase.DISTRIBUTED, [])
    await two.turn()
    waived = await admin.rotations.waive(started.name, member=two.name)
    assert any(member.waived for member in waived.members)
    rolled = await admin.rotations.roll_back(started.name)
    assert not any(member.waived for member in rolled.members)
    assert (await membership.until(rolled.operation, [one, two])).state is OperationState.CANCELLED
