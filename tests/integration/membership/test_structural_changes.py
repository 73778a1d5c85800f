"""Join, detach, dissolve, clean: durable, all or nothing, refused with a reason, over real mutual TLS on both databases."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from keyreeve import errors
from keyreeve.membership_values import ArrayState, MemberState, RotationKind, Server
from keyreeve.operation_values import OperationState
from keyreeve_membership.authorities.ports import CaState
from keyreeve_membership.configuration.settings_list import REPORT_INTERVAL
from keyreeve_membership.store.tables import metadata
from support.membership import RunningMembership, membership_settings, running_membership

TABLES = ("arrays", "members", "member_events", "epochs", "rotations", "operations", "roll_state")


async def tables(service: RunningMembership) -> dict[str, list[Any]]:
    """Everything that a structural change could change."""
    read = {}
    for name in TABLES:
        key = metadata.tables[name].primary_key.columns
        query = metadata.tables[name].select().order_by(*key)
        read[name] = await service.read(lambda tx, query=query: tx._connection.execute(query).all())
    return read


async def test_a_server_joins_when_it_uses_the_arrays_ca_and_its_old_array_is_dissolved(
    membership: RunningMembership,
) -> None:
    one, two = await membership.array_of("one.example.test", "two.example.test")
    admin = (await membership.client()).membership
    array = await admin.arrays.get(one.array)
    assert (array.member_count, array.primary, array.change) == (2, one.resource, "")
    assert array.backup_primaries == (two.resource,)
    members = [member async for member in admin.members.list(array=one.array)]
    assert [(member.state, member.primary) for member in members] == [
        (MemberState.MEMBER, True),
        (MemberState.MEMBER, False),
    ]
    assert all(member.report and member.report.disagreements == () for member in members)
    dissolved = [found async for found in admin.arrays.list(dissolved=True) if found.name != one.array]
    assert [found.state for found in dissolved] == [ArrayState.DISSOLVED]
    authority = dissolved[0].authority.removeprefix("authorities/")
    assert membership.authorities.known[authority].state is CaState.RETIRED
    assert (two.name, array.authority.removeprefix("authorities/")) in membership.peers.checked
    facts = {fact.name: fact for fact in membership.authorities.facts.values()}
    assert facts[two.name].array_id == one.array.removeprefix("arrays/")
    assert (facts[one.name].state, facts[one.name].primary) == ("member", True)


async def test_a_server_that_does_not_answer_on_its_peer_port_does_not_join(
    membership_url: str, tmp_path: Path
) -> None:
    settings = membership_settings(tmp_path, membership_url, join_seconds=2)
    async with running_membership(tmp_path, settings) as membership:
        one, two = await membership.agent("one.example.test"), await membership.agent("two.example.test")
        await one.turn()
        await two.turn()
        membership.peers.problems[two.name] = "UNAVAILABLE: refused"
        admin = (await membership.client()).membership
        array = await admin.arrays.get(one.array)
        begun = await admin.arrays.join(one.name, two.name, accepted_sha256=array.authority_sha256)
        ended = await membership.until(begun.name, [one, two])
        assert (ended.state, ended.error_reason) == (OperationState.FAILED, "UNREACHABLE")
        member = await admin.members.get(two.name)
        assert (member.state, member.array, member.joining_array) == (MemberState.STANDALONE, two.array, "")
        assert (await admin.arrays.get(one.array)).change == ""
        assert two.authority == (await admin.arrays.get(two.array)).authority, "it has gone back to its own CA"


async def test_a_cancelled_join_is_undone(membership: RunningMembership) -> None:
    one, two = await membership.agent("one.example.test"), await membership.agent("two.example.test")
    await one.turn()
    await two.turn()
    admin = (await membership.client()).membership
    array = await admin.arrays.get(one.array)
    begun = await admin.arrays.join(one.name, two.name, accepted_sha256=array.authority_sha256)
    await admin.operations.cancel(begun.name)
    ended = await membership.until(begun.name, [])
    assert ended.state is OperationState.CANCELLED
    assert (await admin.members.get(two.name)).state is MemberState.STANDALONE
    assert (await admin.arrays.get(two.array)).change == ""


async def test_without_peer_security_servers_join_and_leave_and_load_nothing(membership: RunningMembership) -> None:
    names = ("one.example.test", "two.example.test")
    one, two = agents = [await membership.agent(name, peer_security=False) for name in names]
    for agent in agents:
        await agent.turn()
    admin = (await membership.client()).membership
    joined = await membership.until((await admin.arrays.join(one.name, two.name)).name, agents)
    assert joined.state is OperationState.SUCCEEDED
    assert (await admin.members.get(two.name)).array == one.array
    left = await membership.until((await admin.arrays.detach(two.name)).name, agents)
    assert left.state is OperationState.SUCCEEDED
    assert (await admin.members.get(two.name)).state is MemberState.STANDALONE
    assert {agent.epoch for agent in agents} == {None}


async def test_a_join_is_refused_with_its_reason_and_changes_nothing(membership: RunningMembership) -> None:
    one, two = await membership.array_of("one.example.test", "two.example.test")
    three = await membership.agent("three.example.test")
    silent = await membership.agent("silent.example.test")
    plain = await membership.agent("plain.example.test", peer_security=False)
    for agent in (three, plain):
        await agent.turn()
    admin = (await membership.client()).membership
    accepted = (await admin.arrays.get(one.array)).authority_sha256

    async def refused(reason: type[errors.KeyreeveError], primary: str, secondary: str, given: bytes = accepted) -> Any:
        await membership.quiet()
        before = await tables(membership)
        with pytest.raises(reason) as told:
            await admin.arrays.join(primary, secondary, accepted_sha256=given)
        assert await tables(membership) == before
        return told.value

    await refused(errors.SameServer, one.name, one.name)
    await refused(errors.NotPrimary, two.name, three.name)
    await refused(errors.NotStandalone, three.name, two.name)
    await refused(errors.NotStandalone, three.name, one.name)
    await refused(errors.FingerprintMismatch, one.name, three.name, b"\0" * 32)
    await refused(errors.MemberUnreachable, one.name, silent.name)
    await refused(errors.PeerSecurityMismatch, one.name, plain.name)
    await refused(errors.MemberNotFound, one.name, "nobody.example.test")

    three.skew = timedelta(seconds=61)
    await three.report()
    told = await refused(errors.ClockSkewed, one.name, three.name)
    assert set(told.metadata) >= {"client_time", "server_time"}
    three.skew = timedelta(seconds=-58)
    three.release = "5.41.1"
    await three.report()
    await refused(errors.ReleaseMismatch, one.name, three.name)
    three.release = "5.40.1"
    three.says = {"running_sessions": 0, "suspended_sessions": 2}
    await three.report()
    await refused(errors.SessionsRunning, one.name, three.name)
    three.says = {}
    await three.report()

    assert two.epoch is not None
    two.epoch = replace(two.epoch, epoch=7)
    await two.report()
    told = await refused(errors.ViewsDisagree, one.name, three.name)
    assert told.metadata["members"] == two.name
    two.epoch = replace(two.epoch, epoch=1)
    await two.report()

    await admin.arrays.join(one.name, three.name, accepted_sha256=accepted)
    four = await membership.agent("four.example.test")
    await four.turn()
    with pytest.raises(errors.ChangeInProgress):
        await admin.arrays.join(one.name, four.name, accepted_sha256=accepted)
    assert (await admin.members.get(four.name)).state is MemberState.STANDALONE
    assert (await admin.arrays.get(four.array)).change == ""


async def test_a_detached_server_is_alone_with_a_new_ca_and_its_old_certificate_is_revoked(
    membership: RunningMembership,
) -> None:
    one, two = await membership.array_of("one.example.test", "two.example.test")
    old = two.certificate.removeprefix("certificates/")
    admin = (await membership.client()).membership
    await membership.quiet()
    before = await tables(membership)
    with pytest.raises(errors.PrimaryCannotDetach):
        await admin.arrays.detach(one.name)
    assert await tables(membership) == before
    begun = await admin.arrays.detach(two.name)
    assert (await membership.until(begun.name, [one])).state is OperationState.SUCCEEDED
    two.says = {"view": None}
    await two.report()
    accepted = (await admin.arrays.get(one.array)).authority_sha256
    with pytest.raises(errors.ViewsDisagree) as returning:  # with a certificate of the array that is revoked
        await admin.arrays.join(one.name, two.name, accepted_sha256=accepted)
    assert returning.value.metadata["members"] == two.name
    two.says = {}
    await two.turn()
    member = await admin.members.get(two.name)
    assert (member.state, member.primary) == (MemberState.STANDALONE, True)
    assert member.array not in {one.array, two.array}
    assert old in membership.authorities.revoked
    assert two.authority == (await admin.arrays.get(member.array)).authority
    left = await admin.arrays.get(one.array)
    assert (left.member_count, left.backup_primaries, left.change) == (1, (), "")
    assert (await admin.members.get(one.name)).state is MemberState.STANDALONE
    facts = {fact.name: fact for fact in membership.authorities.facts.values()}
    assert facts[two.name].array_id == member.array.removeprefix("arrays/")


async def test_dissolving_detaches_all_secondaries(membership: RunningMembership) -> None:
    agents = await membership.array_of("one.example.test", "two.example.test", "three.example.test")
    admin = (await membership.client()).membership
    begun = await admin.arrays.dissolve(agents[0].array)
    assert (await membership.until(begun.name, agents)).state is OperationState.SUCCEEDED
    members = [member async for member in admin.members.list()]
    assert len({member.array for member in members}) == 3
    assert {member.state for member in members} == {MemberState.STANDALONE}
    assert all(member.primary for member in members)


async def test_a_member_is_cleaned_only_if_the_views_disagree(membership: RunningMembership) -> None:
    one, two = await membership.array_of("one.example.test", "two.example.test")
    admin = (await membership.client()).membership
    with pytest.raises(errors.ViewsAgree):
        await admin.arrays.clean(two.name, only_if_disagreeing=True)
    assert two.epoch is not None
    two.epoch = replace(two.epoch, epoch=9)
    await two.report()
    three = await membership.agent("three.example.test")
    await three.turn()
    accepted = (await admin.arrays.get(one.array)).authority_sha256
    with pytest.raises(errors.ViewsDisagree):
        await admin.arrays.join(one.name, three.name, accepted_sha256=accepted)
    begun = await admin.arrays.clean(two.name, only_if_disagreeing=True)
    assert (await membership.until(begun.name, [one, two])).state is OperationState.SUCCEEDED
    assert (await admin.members.get(two.name)).state is MemberState.STANDALONE


async def test_agents_change_only_arrays_of_their_own(membership: RunningMembership) -> None:
    one, two, three = await membership.array_of("one.example.test", "two.example.test", "three.example.test")
    for change in (
        two.client.membership.arrays.detach(three.name),
        two.client.membership.arrays.promote(two.name),
        two.client.membership.arrays.dissolve(one.array),
        two.client.membership.members.remove_backup_primary(one.array),
        one.client.membership.arrays.join(one.name, three.name),
    ):
        with pytest.raises(errors.AccessDenied):
            await change
    begun = await one.client.membership.arrays.detach(three.name)
    assert begun.state is OperationState.RUNNING


async def test_an_agent_joins_with_the_fingerprint_of_the_other_ca_and_not_with_its_own(
    membership: RunningMembership,
) -> None:
    one, two = await membership.agent("one.example.test"), await membership.agent("two.example.test")
    for agent in (one, two):
        await agent.turn()
    arrays = two.client.membership.arrays
    own, other = await arrays.get(two.array), await arrays.get(one.array)
    with pytest.raises(errors.FingerprintMismatch):
        await arrays.join(one.name, two.name, accepted_sha256=own.authority_sha256)
    begun = await arrays.join(one.name, two.name, accepted_sha256=other.authority_sha256)
    assert (await membership.until(begun.name, [one, two])).state is OperationState.SUCCEEDED


async def test_a_change_waits_while_the_ca_is_away_and_then_goes_on(membership: RunningMembership) -> None:
    one, two = await membership.array_of("one.example.test", "two.example.test")
    admin = (await membership.client()).membership
    membership.authorities.away = True
    begun = await admin.arrays.detach(two.name)
    assert (await admin.members.get(two.name)).state is MemberState.DETACHING
    membership.authorities.away = False
    assert (await membership.until(begun.name, [one, two])).state is OperationState.SUCCEEDED


async def test_a_server_of_a_removed_server_s_name_inherits_nothing(membership: RunningMembership) -> None:
    one, two = await membership.array_of("one.example.test", "two.example.test")
    admin = (await membership.client()).membership
    for name in (one.name, two.name):
        with pytest.raises(errors.NotStandalone):
            await admin.members.remove(name)
    with pytest.raises(errors.AccessDenied):
        await one.client.membership.members.remove(two.name)
    begun = await admin.arrays.detach(two.name)
    await membership.until(begun.name, [one, two])
    before = await admin.members.get(two.name)
    array = await admin.arrays.get(before.array)
    assert (await two.client.membership.members.remove(two.name)).state is MemberState.DETACHED
    await membership.quiet()
    assert membership.authorities.known[array.authority.removeprefix("authorities/")].state is CaState.RETIRED
    assert membership.authorities.facts[before.member_uid].removed
    with pytest.raises(errors.MemberNotFound):
        await two.report()
    again = await membership.agent(two.name)
    member = await admin.members.get(two.name)
    assert member.member_uid != before.member_uid
    assert again.array not in {before.array, one.array}
    assert (await admin.arrays.get(again.array)).authority != array.authority
    assert (await admin.arrays.get(before.array)).state is ArrayState.DISSOLVED


async def test_backup_primaries_are_ordered(membership: RunningMembership) -> None:
    one, two, three = await membership.array_of("one.example.test", "two.example.test", "three.example.test")
    members = (await membership.client()).membership.members
    assert await members.backup_primaries(one.array) == (two.resource, three.resource)
    assert await members.move_backup_primary(three.name, 1) == (three.resource, two.resource)
    assert await members.remove_backup_primary(one.array, two.name) == (three.resource,)
    with pytest.raises(errors.BackupPrimaryNotFound):
        await members.move_backup_primary(two.name, 1)
    with pytest.raises(errors.BackupPrimaryExists):
        await members.add_backup_primary(three.name)
    with pytest.raises(errors.NotSecondary):
        await members.add_backup_primary(one.name)
    assert await members.add_backup_primary(two.name, position=1) == (two.resource, three.resource)
    assert await members.remove_backup_primary(one.array) == ()


async def test_the_database_itself_allows_one_primary_and_one_server_to_a_name(membership: RunningMembership) -> None:
    one, _ = await membership.array_of("one.example.test", "two.example.test")

    def second_primary(tx: Any) -> None:
        tx._connection.execute(text('UPDATE members SET "primary" = true'))

    def same_name(tx: Any) -> None:
        tx._connection.execute(text("UPDATE members SET name = 'one.example.test'"))

    for wrong in (second_primary, same_name):
        with pytest.raises(Exception, match=r"(?i)unique"):
            await membership.write(wrong)
    client = (await membership.client()).membership
    with pytest.raises(errors.MemberExists):
        await client.arrays.create(Server(one.name, "127.0.0.1:1", one.release))


async def test_what_another_writes_into_the_roll_is_found_and_stops_changes(membership: RunningMembership) -> None:
    one, two = await membership.array_of("one.example.test", "two.example.test")
    await membership.quiet()
    assert await membership.read(lambda tx: tx.trust.verify()) == []
    statement = text("UPDATE members SET address = '6.6.6.6:5427' WHERE name = 'two.example.test'")
    await membership.write(lambda tx: tx._connection.execute(statement))
    trust = membership.context.trust
    assert trust is not None
    await membership.read(trust.look)
    admin = (await membership.client()).membership
    for change in (
        admin.arrays.detach(two.name),
        admin.arrays.promote(two.name),
        two.renew(),
        admin.members.quarantine(two.name, "why"),
        admin.members.readmit(two.name),
        admin.members.add_backup_primary(two.name),
        admin.members.move_backup_primary(two.name, 1),
        admin.members.remove_backup_primary(one.array),
        admin.settings.update([two.name], {REPORT_INTERVAL: "7"}),
        admin.rotations.start(one.array, RotationKind.SCHEDULED),
        admin.rotations.roll_back("rotations/any"),
        admin.rotations.waive("rotations/any"),
    ):
        with pytest.raises(errors.TrustTableAltered):
            await change
    [alteration] = await membership.read(lambda tx: tx.trust.verify())
    assert (alteration.table, alteration.key) == ("members", (await admin.members.get(two.name)).member_uid)
