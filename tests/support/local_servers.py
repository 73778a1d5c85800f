"""Servers whose agents are real processes of a real control plane."""

import uuid
from pathlib import Path

from keyreeve.cli.tour.local_agents import LocalAgent, free_address
from keyreeve.operation_values import Operation, OperationState
from support.control_plane import ControlPlane


class Servers:
    """Servers with agents on addresses of their own, each in an array of one."""

    def __init__(self, plane: ControlPlane, directory: Path, count: int = 3) -> None:
        self.client = plane.client()
        self.domain = plane.context.trust_domain
        run = uuid.uuid4().hex[:8]
        self.all = [
            LocalAgent(f"web-{n}-{run}.example.test", free_address(f"127.0.0.{10 + n}"), directory / f"web-{n}")
            for n in range(1, count + 1)
        ]
        for agent in self.all:
            agent.configure({"membership": plane.context.addresses("membership")})
            agent.enroll(self.client.tokens.create(f"spiffe://{self.domain}/members/{agent.name}").text)
            agent.start()
        for agent in self.all:
            agent.wait_for("it stands alone", lambda status: bool(status.get("array")))

    def array_of(self, agent: LocalAgent) -> str:
        return self.client.membership.members.get(agent.name).array

    def join(self, primary: LocalAgent, agent: LocalAgent) -> None:
        self.done(self.begin_join(primary, agent))

    def begin_join(self, primary: LocalAgent, agent: LocalAgent) -> Operation:
        array = self.client.membership.arrays.get(self.array_of(primary))
        return self.client.membership.arrays.join(primary.name, agent.name, accepted_sha256=array.authority_sha256)

    def done(self, operation: Operation) -> None:
        *_, last = self.client.membership.operations.watch(operation.name)
        assert last.state is OperationState.SUCCEEDED, last

    def wait_for_reach(self) -> None:
        for agent in self.all:
            agent.wait_for("it reaches the others", lambda status: all_reached(status, len(self.all) - 1))

    def stop(self) -> None:
        for agent in self.all:
            agent.stop()
        self.client.close()


def all_reached(status: object, count: int) -> bool:
    assert isinstance(status, dict)
    peers = status.get("peers", {})
    return len(peers) == count and all(one["reachable"] for one in peers.values())
