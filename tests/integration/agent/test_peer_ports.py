"""Agents on addresses of their own: what they load, acknowledge, accept and refuse over real mutual TLS."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import grpc
import grpc.aio
import pytest

from keyreeve.channel_credentials import pinned_options
from keyreeve.errors import EpochEquivocation, KeyreeveError
from keyreeve.peer.v1 import peer_service_pb2 as pb
from keyreeve.status import error_from_rpc
from keyreeve.values import MemberState
from keyreeve_agent.peers.dialing import ping
from keyreeve_agent.peers.servicer import SERVICE
from support.agent_world import ACCEPT, CHECK, ISSUE, TestAgent, TestArrayCa, World, agents, epoch_of, now, start_agent
from support.peer_certificates import TRUST_DOMAIN, Leaf
from support.waiting import moment, wait_until

ONE, TWO, THREE = (f"{label}.{TRUST_DOMAIN}" for label in ("one", "two", "three"))


@pytest.fixture
def world() -> World:
    return World()


class Running:
    """Three agents; addresses are free ports of loopback addresses of their own."""

    def __init__(self, world: World, members: dict[str, TestAgent]) -> None:
        self.world = world
        self.one, self.two, self.three = (members[label] for label in ("one", "two", "three"))
        self.all = list(members.values())

    async def in_one_array(self) -> None:
        """Put all three into the first one's array, and wait until each has acknowledged it and reaches the others."""
        array = self.world.of(ONE).name
        for name in (TWO, THREE):
            self.world.put(name, array, MemberState.MEMBER)
        self.world.put(ONE, array, MemberState.MEMBER, primary=True)
        await wait_until("all reach each other", lambda: all(self.reaches(one, 2) for one in self.all))

    def reaches(self, agent: TestAgent, count: int) -> bool:
        found = agent.view.reached.values()
        return len(found) == count and all(one.reachable for one in found)

    def acknowledged(self, epoch: int) -> bool:
        array = self.world.of(ONE)
        want = {(name, array.name, epoch, array.epochs[epoch - 1].digest) for name in (ONE, TWO, THREE)}
        return want <= set(self.world.acknowledged)


@pytest.fixture
async def running(world: World, tmp_path: Path, unused_ports: list[int]) -> AsyncIterator[Running]:
    addresses = {label: f"127.0.0.{11 + n}:{unused_ports[n]}" for n, label in enumerate(("one", "two", "three"))}
    async with agents(world, tmp_path, **addresses) as started:
        made = Running(world, started)
        await wait_until(
            "each is alone in its array", lambda: len({name for name, *_ in world.acknowledged}) == len(started)
        )
        yield made


async def call_ping(agent: TestAgent, leaf: Leaf, roots: bytes | None = None) -> pb.PingResponse:
    """Ping an agent with any certificate. Raises `keyreeve.errors`."""
    async with channel(agent, leaf, roots) as opened:
        return await ping(opened)


def channel(agent: TestAgent, leaf: Leaf, roots: bytes | None = None) -> grpc.aio.Channel:
    assert agent.view.loaded is not None
    address = agent.loop.server.address
    credentials = grpc.ssl_channel_credentials(roots or agent.view.loaded.bundle_pem, leaf.key_pem, leaf.pem)
    return grpc.aio.secure_channel(address, credentials, options=pinned_options(address, agent.view.name))


async def reason(work: object) -> str:
    with pytest.raises(KeyreeveError) as refused:
        await work  # type: ignore[misc]
    return refused.value.reason


async def test_a_server_alone_serves_its_peer_port_and_acknowledges(running: Running) -> None:
    epoch = running.world.of(ONE).epochs[0]
    assert (ONE, epoch.array, 1, epoch.digest) in running.world.acknowledged
    answer = await call_ping(running.one, running.world.of(ONE).issuing.check())
    assert (answer.member, answer.array, answer.epoch, answer.digest) == (
        f"members/{ONE}",
        epoch.array,
        1,
        epoch.digest,
    )
    assert answer.boot_id == running.one.view.boot_id


async def test_members_of_an_array_reach_each_other_and_report_it(running: Running) -> None:
    await running.in_one_array()
    seen = await wait_until(
        "a report of it",
        lambda: [one for one in running.world.reports[TWO].peers if one.reachable][1:] and running.world.reports[TWO],
    )
    assert seen.view is not None
    assert (seen.view.primary, seen.view.members) == (
        f"members/{ONE}",
        (f"members/{ONE}", f"members/{THREE}", f"members/{TWO}"),
    )
    assert seen.authority == running.world.of(ONE).issuing.name


@pytest.mark.parametrize("how", ["it is readmitted", "a CRL says so"])
async def test_a_member_whose_certificate_is_revoked_gets_another_one(running: Running, how: str) -> None:
    await running.in_one_array()
    array, loaded = running.world.of(TWO), running.two.view.loaded
    assert loaded is not None
    array.issuing.revoked.append(loaded.certificate.serial_number)
    if how == "it is readmitted":
        running.world.put(TWO, array.name, MemberState.QUARANTINED)
        await wait_until("it is told", lambda: running.two.view.roll[TWO].state is MemberState.QUARANTINED)
        await wait_until("it has reported", lambda: TWO not in running.world.reports or running.two.loop._renew)
        running.world.put(TWO, array.name, MemberState.MEMBER)
    else:
        running.two.loop._crls_at = float("-inf")
        running.two.loop._wake.set()
    await wait_until("another one is loaded", lambda: running.two.view.loaded.certificate != loaded.certificate)


async def test_a_rotation_renews_every_certificate_and_no_call_fails(running: Running) -> None:
    await running.in_one_array()
    array = running.world.of(ONE)
    old, new = array.issuing, TestArrayCa.make(CHECK)
    calls, failed, stop = 0, [], False

    async def talk() -> None:
        nonlocal calls
        while not stop:
            for peer in (running.one, running.three):
                reach = await running.two.dialer.dial(running.two.view.roll[peer.view.name])
                calls += 1
                if not reach.reachable:
                    failed.append(reach)

    talking = asyncio.create_task(talk())
    array.next_epoch(old, new)
    running.world.change()
    await wait_until("both CAs are acknowledged", lambda: running.acknowledged(2))
    for agent in running.all:
        await call_ping(agent, new.check())
    before = {one.view.name: one.view.loaded for one in running.all}
    old.use, new.use = ACCEPT, ISSUE
    running.world.change()
    for one in running.all:
        await wait_until(
            "a certificate of the new CA",
            lambda one=one: one.view.loaded is not None and one.view.loaded.material.authority == new.name,
        )
    array.next_epoch(new)
    running.world.change()
    await wait_until("the old CA is gone", lambda: running.acknowledged(3))
    stop = True
    await talking
    assert failed == []
    assert calls > 10
    for one in running.all:
        assert one.view.loaded is not None
        assert before[one.view.name] is not None
        assert one.view.loaded.material.key_pem != before[one.view.name].material.key_pem, "a new key at each renewal"
    roots = running.one.view.loaded.bundle_pem
    assert await reason(call_ping(running.one, old.peer(TWO), roots)) == "SERVICE_UNREACHABLE"


async def test_a_detached_server_is_refused_by_the_others_on_open_channels_too(running: Running) -> None:
    await running.in_one_array()
    array = running.world.of(ONE)
    leaf = array.issuing.peer(TWO)
    async with channel(running.one, leaf) as opened:
        await ping(opened)
        lonely = running.world.new_array("arrays/lonely").name
        running.world.put(TWO, lonely, MemberState.STANDALONE, primary=True)

        async def refused() -> bool:
            try:
                await ping(opened)
            except KeyreeveError as failure:
                return failure.reason == "PEER_NOT_MEMBER"
            return False

        for _ in range(100):
            if await refused():
                break
            await moment()
        else:
            raise AssertionError("it is still accepted")
    await wait_until(
        "it stands alone", lambda: running.two.view.array == lonely and running.two.view.roll[TWO].array == lonely
    )
    assert (await running.one.dialer.dial(running.one.view.roll[TWO])).problem == "PEER_ISSUER_UNKNOWN"


async def test_a_check_is_good_for_a_ping_alone(running: Running) -> None:
    check = running.world.of(ONE).issuing.check()
    async with channel(running.one, check) as opened:
        call = opened.unary_unary(
            f"/{SERVICE}/GetPeerStatus", pb.GetPeerStatusRequest.SerializeToString, pb.PeerStatus.FromString
        )
        with pytest.raises(grpc.RpcError) as refused:
            await call(pb.GetPeerStatusRequest(), timeout=5)
    assert error_from_rpc(refused.value, "peer").reason == "ACCESS_DENIED"


async def test_a_member_sees_how_another_one_sees_the_array(running: Running) -> None:
    await running.in_one_array()
    async with channel(running.one, running.world.of(ONE).issuing.peer(TWO)) as opened:
        call = opened.unary_unary(
            f"/{SERVICE}/GetPeerStatus", pb.GetPeerStatusRequest.SerializeToString, pb.PeerStatus.FromString
        )
        status = await call(pb.GetPeerStatusRequest(), timeout=5)
    assert (status.primary, len(status.members)) == (f"members/{ONE}", 3)
    assert {one.member: one.reachable for one in status.peers} == {f"members/{TWO}": True, f"members/{THREE}": True}
    assert status.control_plane_reachable


async def test_a_revoked_certificate_is_refused_once_the_crl_is_there(running: Running) -> None:
    await running.in_one_array()
    ca = running.world.of(ONE).issuing
    leaf = ca.peer(TWO)
    await call_ping(running.one, leaf)
    ca.revoked.append(leaf.certificate.serial_number)
    running.one.loop._crls_at = float("-inf")
    running.world.change()
    await wait_until("the CRL is loaded", lambda: running.one.view.trust and running.one.view.trust.revoked)
    assert await reason(call_ping(running.one, leaf)) == "PEER_CERTIFICATE_REVOKED"


async def test_what_the_contract_does_not_allow_is_refused_with_the_reason(running: Running) -> None:
    ca = running.world.of(ONE).issuing
    assert await reason(call_ping(running.one, ca.peer(TWO))) == "PEER_NOT_MEMBER"
    assert await reason(call_ping(running.one, ca.ca.leaf(dns=[ONE], common_name=TWO))) == "PEER_IDENTITY_INVALID"
    async with channel(running.one, ca.check()) as opened:
        for nonce in (b"", b"x" * 65):
            call = opened.unary_unary(f"/{SERVICE}/Ping", pb.PingRequest.SerializeToString, pb.PingResponse.FromString)
            with pytest.raises(grpc.RpcError) as refused:
                await call(pb.PingRequest(nonce=nonce), timeout=5)
            assert error_from_rpc(refused.value, "peer").reason == "FIELD_INVALID"


async def test_without_the_control_plane_all_goes_on_and_the_status_says_so(running: Running) -> None:
    await running.in_one_array()
    running.world.silent = True
    running.world.change()
    await wait_until("it is noticed", lambda: "control_plane" in running.two.view.problems)
    assert "the peer certificate ends" in running.two.view.problems["control_plane"]
    assert (await running.two.dialer.dial(running.two.view.roll[ONE])).reachable
    await running.two.stop()
    again = start_agent(running.world, TWO, running.two.loop.server.address, running.two.directory)
    try:
        await wait_until("it serves what is on disk", lambda: again.view.loaded)
        assert (await again.dialer.dial(again.view.roll[ONE])).reachable
        assert (await running.one.dialer.dial(running.one.view.roll[TWO])).reachable
    finally:
        await again.stop()


async def test_a_lower_epoch_and_another_bundle_of_the_same_epoch_are_not_loaded(running: Running) -> None:
    array = running.world.of(ONE)
    second = TestArrayCa.make(CHECK)
    array.next_epoch(array.issuing, second)
    running.world.change()
    await wait_until("the second epoch", lambda: running.one.view.loaded.material.epoch.epoch == 2)
    other = TestArrayCa.make(CHECK)
    array.epochs[-1] = epoch_of(2, array.issuing, other, before=array.epochs[0], array=array.name)
    running.world.change()
    await wait_until("equivocation", lambda: "EQUIVOCATION" in running.one.view.problems.get("bundle", ""))
    array.epochs.pop()
    running.world.change()
    await wait_until("a downgrade", lambda: "DOWNGRADE" in running.one.view.problems.get("material", ""))
    assert running.one.view.loaded.material.epoch.epoch == 2
    assert json.loads((running.one.directory / "epochs.json").read_bytes())[array.name][1] == 2


async def test_nothing_is_acknowledged_before_the_local_programs_have_it(running: Running) -> None:
    array = running.world.of(TWO)
    running.two.programs.failed = {"nginx": "nginx presents another certificate"}
    array.next_epoch(array.issuing, TestArrayCa.make(CHECK))
    running.world.change()
    await wait_until("it is said", lambda: "program nginx" in running.two.view.problems)
    assert (TWO, array.name, 2, array.epochs[-1].digest) not in running.world.acknowledged
    running.two.programs.failed = {}
    await wait_until(
        "it is acknowledged", lambda: (TWO, array.name, 2, array.epochs[-1].digest) in running.world.acknowledged
    )
    assert "program nginx" not in running.two.view.problems


async def test_an_order_to_renew_brings_a_new_key(running: Running) -> None:
    before = running.one.view.loaded
    running.one.loop.renew_now()
    await wait_until("a new certificate", lambda: running.one.view.loaded is not before)
    assert running.one.view.loaded.material.key_pem != before.material.key_pem


async def test_a_certificate_is_renewed_when_the_control_plane_says_or_its_own_time_has_come(running: Running) -> None:
    before = running.one.view.loaded
    running.world.renew_at = now() - timedelta(hours=1)
    running.world.change()
    await wait_until("a new certificate", lambda: running.one.view.loaded is not before)
    assert running.one.view.loaded.material.key_pem != before.material.key_pem
    running.world.renew_at, running.world.renew_after = None, timedelta(seconds=-1)
    running.one.loop.renew_now()
    issued = len(running.world.issued)
    await wait_until("it renews by itself", lambda: len(running.world.issued) > issued + 1)
    running.world.renew_after = timedelta(hours=8)


async def test_a_member_that_slept_through_twelve_epochs_checks_each_of_them(running: Running) -> None:
    loop, array = running.one.loop, running.world.of(ONE)
    await running.one.stop()
    for _ in range(12):
        array.next_epoch(TestArrayCa.make())
    instruction = await loop.control.report(await loop._status())
    true = array.epochs[6]
    array.epochs[6] = replace(true, previous_digest=b"x" * 32)
    with pytest.raises(EpochEquivocation):
        await loop._epoch(instruction, None)
    assert loop.seen.of(array.name).epoch == 1, "nothing of a broken chain is kept"
    array.epochs[6] = true
    assert (await loop._epoch(instruction, None)).epoch == 13
    assert loop.seen.of(array.name).epoch == 13


async def test_revocations_stay_known_when_a_new_epoch_comes_and_the_ca_is_silent(running: Running) -> None:
    await running.in_one_array()
    array = running.world.of(ONE)
    array.issuing.revoked.append(7)
    running.one.loop._crls_at = float("-inf")
    running.world.change()
    await wait_until("the CRL is loaded", lambda: running.one.view.trust.revoked)
    running.world.crls = False
    array.next_epoch(array.issuing, TestArrayCa.make(CHECK))
    running.world.change()
    await wait_until("the new epoch", lambda: running.one.view.loaded.material.epoch.epoch == 2)
    assert {serial for _, serial in running.one.view.trust.revoked} == {7}


async def test_without_peer_security_there_is_no_peer_port(running: Running) -> None:
    running.world.peer_security = False
    running.world.change()
    await wait_until("the port is closed", lambda: running.one.loop.port._server is None)
    assert (await running.one.dialer.dial(running.one.view.roll[ONE])).problem == "SERVICE_UNREACHABLE"
    running.world.peer_security = True
    running.world.change()
    await wait_until("it is open again", lambda: running.one.loop.port._server is not None)
    await call_ping(running.one, running.world.of(ONE).issuing.check())


async def test_a_server_that_runs_twice_is_told_so_and_says_it(running: Running) -> None:
    running.world.cloned = TWO
    running.world.change()
    await wait_until("it says so", lambda: "CLONED_MEMBER" in running.two.view.problems.get("report", ""))
    assert "control_plane" not in running.two.view.problems
    running.world.cloned = ""
    await wait_until("it is over", lambda: "report" not in running.two.view.problems)


async def test_a_peer_that_speaks_no_tls_is_unreachable_and_does_not_keep_the_others_from_being_dialed(
    running: Running,
) -> None:
    await running.in_one_array()

    async def babble(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 ready\r\n")
        writer.close()

    server = await asyncio.start_server(babble, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    running.world.put(THREE, running.world.of(ONE).name, MemberState.MEMBER, address=f"127.0.0.1:{port}")
    await wait_until("it is known", lambda: running.one.view.roll[THREE].address.endswith(f":{port}"))
    reached = await running.one.dialer.dial_all([one for one in running.one.view.members if one.name != ONE])
    assert (reached[THREE].problem, reached[TWO].reachable) == ("SERVICE_UNREACHABLE", True)
    server.close()
