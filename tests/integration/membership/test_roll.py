"""The roll over real mutual TLS: servers alone, reports, epochs, certificates, and who may do what."""

import asyncio
import hashlib
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

import pytest

from keyreeve import errors, keys
from keyreeve.membership_values import ArrayState, ArrayView, AuthorityUse, MemberState, RotationKind, Server
from keyreeve.request_ids import new_request_id
from keyreeve.values import Name
from keyreeve_chassis.database.opening import writing_database
from keyreeve_chassis.guard.peers import PeerVerifier
from keyreeve_chassis.processes.lifecycle import system_clock
from keyreeve_chassis.schema.migrating import drift
from keyreeve_membership.app import STORAGE
from keyreeve_membership.roll.service import get_member
from keyreeve_membership.store.ports import Transaction
from keyreeve_membership.store.schema import SCHEMA
from support.access_matrix import caller_kinds, walk
from support.membership import RELEASE, RunningMembership, membership_settings
from support.service_in_process import database_url
from support.ticket_matrix import walk_tickets_in_process

ONE = Server("one.example.test", "127.0.0.1:5427", RELEASE, ("www.example.test",))


@pytest.mark.thorough_on("postgresql")
@pytest.mark.sqlite_first
async def test_every_method_keeps_to_its_access_rule(membership: RunningMembership) -> None:
    identity = membership.identity
    router = membership.running.router
    verifier = PeerVerifier(identity.trust_view, system_clock, identity.revocations)
    tried = await walk(membership.address, router, identity.hierarchies, verifier)
    assert tried == len(caller_kinds(identity.hierarchies)) * len(router.methods)
    methods = list(router.methods.values())
    await walk_tickets_in_process(membership.address, methods, identity.hierarchies, identity.revocations, "membership")


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_the_migrations_create_the_tables_exactly(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    url = database_url(kind, lambda: request.getfixturevalue("postgresql_server"), SCHEMA, migrated=False)
    settings = membership_settings(tmp_path, url)
    settings.state_directory.mkdir(mode=0o700)
    STORAGE.migrate(settings)
    with writing_database(settings, SCHEMA) as database:
        assert drift(database.engine, SCHEMA) == []


async def test_a_registered_server_is_the_primary_of_an_array_of_one_with_its_own_ca(
    membership: RunningMembership,
) -> None:
    client = (await membership.client()).membership
    request_id = new_request_id()
    made = await client.arrays.create(ONE, array_id="web", request_id=request_id)
    assert (made.name, made.state, made.primary, made.member_count) == (
        "arrays/web",
        ArrayState.ACTIVE,
        "members/one.example.test",
        1,
    )
    assert made.peer_security
    assert await client.arrays.create(ONE, array_id="web", request_id=request_id) == made
    assert [one async for one in client.arrays.list()] == [made]
    member = await client.members.get("one.example.test")
    assert (member.state, member.primary, member.array) == (MemberState.STANDALONE, True, "arrays/web")

    epoch = await client.bundles.get("web")
    [authority] = epoch.authorities
    assert authority.name == made.authority
    assert authority.use is AuthorityUse.ISSUE
    assert hashlib.sha256(authority.certificate_der).digest() == made.authority_sha256
    prefixed = len(authority.certificate_der).to_bytes(4) + authority.certificate_der
    assert epoch.digest == hashlib.sha256(prefixed).digest()
    assert (epoch.epoch, epoch.previous_digest) == (1, b"")
    assert [one async for one in client.bundles.epochs("web")] == [epoch]

    with pytest.raises(errors.ArrayExists):
        await client.arrays.create(Server("two.example.test", ONE.address, RELEASE), array_id="web")
    with pytest.raises(errors.MemberExists):
        await client.arrays.create(ONE)
    assert len([one async for one in client.members.list()]) == 1


async def test_a_legacy_array_has_no_peer_security_unless_it_is_asked_for(membership: RunningMembership) -> None:
    client = (await membership.client()).membership
    assert not (await client.arrays.create(ONE, legacy=True)).peer_security
    other = Server("two.example.test", "[::1]:5427", RELEASE)
    assert (await client.arrays.create(other, legacy=True, peer_security=True)).peer_security


@pytest.mark.parametrize(
    ("server", "field"),
    [
        (Server("One.example.test", "127.0.0.1:1", RELEASE), "server.name"),
        (Server("10.0.0.1", "127.0.0.1:1", RELEASE), "server.name"),
        (Server("one.example.test", "127.0.0.1", RELEASE), "server.address"),
        (Server("one.example.test", "127.0.0.1:70000", RELEASE), "server.address"),
        (Server("one.example.test", "127.0.0.1:1", "new"), "server.release"),
        (Server("one.example.test", "127.0.0.1:1", RELEASE, ("a.test", "a.test")), "server.external_names"),
    ],
)
async def test_a_server_that_is_described_wrongly_is_refused(
    membership: RunningMembership, server: Server, field: str
) -> None:
    client = (await membership.client()).membership
    with pytest.raises(errors.FieldInvalid) as refused:
        await client.arrays.create(server)
    assert refused.value.violations[0].field == field
    assert membership.authorities.orders == []


async def test_an_agent_reports_loads_acknowledges_and_has_a_certificate(membership: RunningMembership) -> None:
    agent = await membership.agent("one.example.test")
    told = await agent.report()
    assert (told.array, told.epoch, told.interval_seconds) == (agent.array, 1, 30)
    await agent.turn()
    admin = (await membership.client()).membership
    member = await admin.members.get("one.example.test")
    assert member.report is not None
    assert member.report.acknowledged_epoch == 1
    assert member.report.disagreements == ()
    assert member.report.status.certificate == agent.certificate
    assert member.report.status.authority == (await admin.arrays.get(agent.array)).authority
    assert abs(member.report.clock_difference_ms) < 5_000
    [(authority, name, _)] = membership.authorities.issued
    assert (f"authorities/{authority}", name) == (agent.authority, "one.example.test")


async def test_a_report_that_disagrees_with_the_roll_says_how(membership: RunningMembership) -> None:
    agent = await membership.agent("one.example.test")
    await agent.turn()
    told = await agent.report()
    assert agent.epoch is not None
    agent.says["view"] = ArrayView(told.array, "members/two.example.test", ("members/two.example.test",), 7, b"")
    await agent.report()
    member = await (await membership.client()).membership.members.get("one.example.test")
    assert member.report is not None
    assert member.report.disagreements == (
        "primary: two.example.test there, one.example.test here",
        "not there: one.example.test",
        "only there: two.example.test",
        "epoch: 7 there, 1 here",
    )


async def test_an_epoch_with_another_digest_is_not_acknowledged(membership: RunningMembership) -> None:
    agent = await membership.agent("one.example.test")
    rotations = agent.client.membership.rotations
    with pytest.raises(errors.DigestMismatch):
        await rotations.acknowledge(agent.name, agent.array, boot_id=agent.boot_id, epoch=1, digest=b"x" * 32)
    with pytest.raises(errors.EpochNotFound):
        await rotations.acknowledge(agent.name, agent.array, boot_id=agent.boot_id, epoch=2, digest=b"x" * 32)


async def test_two_boots_that_report_in_turn_are_a_clone(membership: RunningMembership) -> None:
    agent = await membership.agent("one.example.test")
    first = agent.boot_id
    await agent.report()
    agent.boot_id = "b" * 32
    await agent.report()
    agent.boot_id = first
    with pytest.raises(errors.ClonedMember) as refused:
        await agent.report()
    assert first in refused.value.metadata["boots"]
    member = await (await membership.client()).membership.members.get(agent.name)
    assert member.report is not None
    assert "cloned" in member.report.disagreements[-1]


async def test_an_agent_acts_for_its_own_server_only(membership: RunningMembership) -> None:
    one, two = await membership.agent("one.example.test"), await membership.agent("two.example.test")
    stranger = two.client.membership
    csr = keys.make_csr(keys.make_key(), [Name.dns(one.name)], common_name=one.name)
    await one.report()
    assert one.told is not None
    with pytest.raises(errors.AccessDenied):
        await stranger.arrays.create(Server("three.example.test", "127.0.0.1:1", RELEASE))
    with pytest.raises(errors.AccessDenied):
        await stranger.members.issue_peer_certificate(one.name, csr)
    with pytest.raises(errors.AccessDenied):
        await stranger.rotations.acknowledge(one.name, one.array, boot_id=one.boot_id, epoch=1, digest=b"")
    with pytest.raises(errors.AccessDenied):
        await stranger.members.get(one.name)
    with pytest.raises(errors.AccessDenied):
        assert [member async for member in stranger.members.list()]
    with pytest.raises(errors.AccessDenied):
        await anext(stranger.members.watch(array=one.array))


async def test_an_agent_looks_at_its_own_array_only(membership: RunningMembership) -> None:
    one, two = await membership.agent("one.example.test"), await membership.agent("two.example.test")
    await one.turn()
    own, stranger = one.client.membership, two.client.membership
    rotation = await (await membership.client()).membership.rotations.start(one.array, RotationKind.SCHEDULED)
    await membership.until(rotation.operation, [one])
    for agent, allowed in ((own, True), (stranger, False)):
        for read in (
            agent.members.backup_primaries(one.array),
            agent.bundles.get(one.array),
            anext(agent.bundles.epochs(one.array)),
            anext(agent.bundles.watch(one.array)),
            agent.rotations.get(rotation.name),
            anext(agent.rotations.list(array=one.array)),
            anext(agent.rotations.watch(rotation.name)),
        ):
            if allowed:
                await read
            else:
                with pytest.raises(errors.AccessDenied):
                    await read
    with pytest.raises(errors.AccessDenied):
        await anext(own.rotations.list())
    seen = await stranger.arrays.get(one.array)
    assert (seen.primary, bool(seen.authority_sha256)) == (one.resource, True), "what a join needs"
    assert (seen.member_count, seen.backup_primaries, seen.change) == (0, (), "")
    assert seen in [one async for one in stranger.arrays.list()]
    assert (await own.arrays.get(one.array)).member_count == 1


async def test_an_agent_s_streams_end_when_its_server_leaves_the_array_and_when_it_is_removed(
    membership: RunningMembership,
) -> None:
    one, two = await membership.array_of("one.example.test", "two.example.test")
    admin, own = (await membership.client()).membership, two.client.membership

    async def detach() -> None:
        await membership.until((await admin.arrays.detach(two.name)).name, [one])

    async def remove() -> None:
        await admin.members.remove(two.name)

    for leave in (detach, remove):
        array = (await admin.members.get(two.name)).array
        async with aclosing(own.bundles.watch(array)) as bundle, aclosing(own.members.watch(array=array)) as roll:
            assert (await anext(bundle)).array == array
            await anext(roll)
            await leave()
            async with asyncio.timeout(20):
                with pytest.raises(errors.AccessDenied):
                    await anext(bundle)
                with pytest.raises(errors.AccessDenied):
                    assert [update async for update in roll]


async def test_a_request_for_another_name_gets_no_certificate(membership: RunningMembership) -> None:
    agent = await membership.agent("one.example.test")
    for names, common_name in ((["two.example.test"], agent.name), ([agent.name], "two.example.test")):
        csr = keys.make_csr(keys.make_key(), [Name.dns(name) for name in names], common_name=common_name)
        with pytest.raises(errors.NameRefused):
            await agent.client.membership.members.issue_peer_certificate(agent.name, csr)
    with pytest.raises(errors.CsrMalformed):
        await agent.client.membership.members.issue_peer_certificate(agent.name, b"no request")
    assert membership.authorities.issued == []


async def test_a_watch_sends_the_roll_and_then_each_change(membership: RunningMembership) -> None:
    await membership.agent("one.example.test")
    client = (await membership.client()).membership
    async with aclosing(client.members.watch()) as watch:
        first = await anext(watch)
        assert [one.name for one in first.members] == ["members/one.example.test"]
        assert first.complete
        two = await membership.agent("two.example.test")
        second = await anext(watch)
        assert [one.name for one in second.members] == ["members/two.example.test"]
        assert second.revision > first.revision
        two.release = "5.40.909"
        await two.report()
        assert (await anext(watch)).members[0].release == "5.40.909"


async def test_an_agent_s_watch_ends_when_its_server_leaves_the_array(membership: RunningMembership) -> None:
    one = await membership.agent("one.example.test")
    other = await membership.agent("other.example.test")
    async with aclosing(one.client.membership.members.watch(array=one.array)) as watch:
        assert [each.name for each in (await anext(watch)).members] == ["members/one.example.test"]

        def move(tx: Transaction) -> None:
            elsewhere = get_member(tx, other.name).array_id
            tx.roll.put_member(replace(get_member(tx, one.name), array_id=elsewhere, primary=False), "moved", "a test")

        await membership.context.store.write(move)
        with pytest.raises(errors.AccessDenied):
            await anext(watch)
