"""Real agents of a real control plane: join, promotion with traffic, a killed agent, detach; and `keyreeve tour`."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from keyreeve.cli.tour.local_agents import LocalAgent
from keyreeve.cli.tour.talking import PeerCaller, Talk
from keyreeve.operation_values import Operation
from support.control_plane import ControlPlane
from support.local_servers import Servers
from support.waiting import wait_for

MOST_RSS_KIB = 66 * 1024
"""The agent's resident memory, of which about 33 MiB are pages of shared libraries (ADR 24)."""


@pytest.fixture
def servers(all_services: ControlPlane, tmp_path: Path) -> Iterator[Servers]:
    made = Servers(all_services, tmp_path)
    yield made
    made.stop()


def memory(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))


@pytest.mark.slow
def test_servers_join_are_promoted_through_the_kill_of_an_agent_and_one_is_detached(servers: Servers) -> None:
    one, two, three = servers.all
    servers.join(one, two)
    servers.join(one, three)
    servers.wait_for_reach()
    before = {agent.name: agent.status["certificate"] for agent in servers.all}

    with Talk(two, [one]) as talk:
        three.kill()
        operation = servers.client.membership.arrays.promote(two.name)
        waiting = wait_for("the rotation names who is missing", lambda: waits_for(servers, operation, three))
        assert "load epoch" in waiting
        assert talk.calls > 0
        three.start()
        servers.done(operation)
        for agent in servers.all:
            agent.wait_for(
                "another certificate", lambda status, agent=agent: status["certificate"] != before[agent.name]
            )
    assert talk.failures == []
    servers.wait_for_reach()
    assert {agent.status["primary"] for agent in servers.all} == {two.name}
    assert len({agent.status["digest"] for agent in servers.all}) == 1
    assert one.check(three.name)[0]

    held = PeerCaller(three)
    assert held.ping(one) == ""
    operation = servers.client.membership.arrays.detach(three.name)
    reason = wait_for("it is refused on the connection that it has", lambda: held.ping(one), 5)
    assert reason == "PEER_NOT_MEMBER"
    held.close()
    servers.done(operation)
    three.wait_for("it stands alone", lambda status: [m["name"] for m in status["members"]] == [three.name])
    assert not one.check(three.name)[0]
    assert max(memory(agent.pid) for agent in servers.all) < MOST_RSS_KIB


def waits_for(servers: Servers, operation: Operation, agent: LocalAgent) -> str | None:
    found = servers.client.membership.operations.get(operation.name).waiting
    return next((one.reason for one in found if one.resource == f"members/{agent.name}" and len(found) == 1), None)


@pytest.mark.slow
def test_a_server_that_stands_alone_can_leave_and_its_agent_can_do_nothing_more(servers: Servers) -> None:
    one = servers.all[0]
    program = [sys.executable, "-P", "-m", "keyreeve_agent", "--config", str(one.directory / "agent.yaml")]
    assert "stop it first" in run([*program, "leave", "--yes"]).stderr
    assert run([*program, "status"]).stdout.startswith(f"member         {one.name}")
    serial = one.status["certificate"]
    assert run([*program, "renew"]).returncode == 0
    one.wait_for("another certificate", lambda status: status["certificate"] != serial)
    one.stop()
    assert "repeat it with --yes" in run([*program, "leave"]).stderr
    assert run([*program, "leave", "--yes"]).returncode == 0
    assert not (one.directory / "state").exists()
    assert "NOT_ENROLLED" in run([*program, "run"]).stderr


def run(command: list[str]) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.faults
def test_the_tour_shows_a_promotion_and_the_vault_without_a_failed_call_and_leaves_nothing(
    own_services: ControlPlane,
) -> None:
    done = own_services.run("tour", "--output", "json")
    assert done.code == 0, done.err
    found = done.document
    assert found["failures"] == []
    assert found["calls"] > 50
    assert (found["refused"], found["refused_after_seconds"] < 5) == ("PEER_NOT_MEMBER", True)
    assert (found["vault_refused"], found["vault_refused_after_seconds"] < 5) == ("POLICY_DENIED", True)
    assert found["seconds"] < 60
