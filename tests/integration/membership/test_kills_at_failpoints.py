"""The service is cut off at every failpoint of its changes, and starts again on the same database: everything begun ends, once.

The CA goes on meanwhile, and so do the agents. A failpoint that a life does not pass fails its test.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from fakes.array_authorities import FakeArrayAuthorities
from keyreeve import aio, errors
from keyreeve.membership_values import MemberState, RotationKind, RotationPhase
from keyreeve.operation_values import OperationState
from keyreeve_chassis.processes import failpoints
from keyreeve_membership.authorities.ports import CaState
from support.change_failpoints import EVERY, FAILPOINTS, SEED
from support.membership import Agent, RunningMembership, fresh_url, membership_settings, running_membership

CHOSEN = FAILPOINTS if EVERY else random.Random(SEED).sample(FAILPOINTS, 3)
"""`make faults` takes all; the short form three, by a seed that is printed."""


class Killed(BaseException):
    """The process ends here."""


@dataclass
class Lives:
    """A service that dies at one passage of a failpoint, and is started again."""

    directory: Path
    url: str
    failpoint: str
    passage: int = 1
    authorities: FakeArrayAuthorities = field(default_factory=FakeArrayAuthorities)
    agents: dict[str, Agent] = field(default_factory=dict)
    passed: int = 0

    def hit(self, name: str) -> None:
        if name == self.failpoint:
            self.passed += 1
            if self.passed == self.passage:
                raise Killed(name)

    async def through(self, act: Callable[[RunningMembership], Awaitable[None]]) -> None:
        """Do something, again after each death."""
        for _ in range(5):
            try:
                await self._live(act)
            except Killed:
                continue
            return
        raise AssertionError("it dies again and again")

    async def _live(self, act: Callable[[RunningMembership], Awaitable[None]]) -> None:
        place = self.directory / f"life-{len(list(self.directory.iterdir()))}"
        place.mkdir()
        settings = membership_settings(self.directory, self.url)
        with suppress(errors.StoreUnavailable):
            async with running_membership(place, settings, self.authorities) as service:
                for agent in self.agents.values():
                    agent.service, agent.client = service, await service.client(f"members/{agent.name}")
                acting = asyncio.ensure_future(act(service))
                background = asyncio.ensure_future(service.running.background)
                await asyncio.wait({acting, background}, return_when=asyncio.FIRST_COMPLETED)
                if background.done():
                    acting.cancel()
                    await asyncio.gather(acting, return_exceptions=True)
                    raise Killed
                background.cancel()
                acting.result()
                return
        raise Killed

    async def begin_agents(self, service: RunningMembership) -> None:
        for name in ("one.example.test", "two.example.test"):
            if name not in self.agents:
                with suppress(errors.MemberExists):
                    await service.agent(name)
                client = await service.client(f"members/{name}")
                self.agents[name] = Agent(service, name, client)
            await self.agents[name].turn()

    async def settle(self, service: RunningMembership) -> None:
        """Let the agents do their part until nothing runs."""
        admin = (await service.client()).membership
        async with asyncio.timeout(60):
            while [one async for one in admin.operations.list() if one.state is OperationState.RUNNING]:
                for agent in self.agents.values():
                    await agent.turn()
        for agent in self.agents.values():
            await agent.turn()


async def join(service: RunningMembership, lives: Lives) -> None:
    admin = (await service.client()).membership
    await lives.settle(service)
    one, two = lives.agents.values()
    if (await admin.members.get(two.name)).state is MemberState.STANDALONE:
        array = await admin.arrays.get((await admin.members.get(one.name)).array)
        await admin.arrays.join(one.name, two.name, accepted_sha256=array.authority_sha256)
        await lives.settle(service)
    assert (await admin.members.get(two.name)).state is MemberState.MEMBER


async def promote(service: RunningMembership, lives: Lives) -> None:
    admin = (await service.client()).membership
    await lives.settle(service)
    two = lives.agents["two.example.test"]
    if not (await admin.members.get(two.name)).primary:
        await admin.arrays.promote(two.name)
        await lives.settle(service)
    assert (await admin.members.get(two.name)).primary


async def roll_back(service: RunningMembership, lives: Lives) -> None:
    admin = (await service.client()).membership
    array = (await admin.members.get("two.example.test")).array

    def is_new(kind: RotationKind) -> bool:
        return kind is RotationKind.SCHEDULED

    started = [one async for one in admin.rotations.list(array=array) if is_new(one.kind)]
    if not started:
        await lives.settle(service)
        started = [await admin.rotations.start(array, RotationKind.SCHEDULED)]
    with suppress(errors.RotationStateWrong):  # it is rolled back already
        await admin.rotations.roll_back(started[0].name)
    await lives.settle(service)
    assert (await admin.rotations.get(started[0].name)).phase is RotationPhase.ROLLED_BACK


async def detach(service: RunningMembership, lives: Lives) -> None:
    admin = (await service.client()).membership
    await lives.settle(service)
    one = lives.agents["one.example.test"]
    if (await admin.members.get(one.name)).state is not MemberState.STANDALONE:
        await admin.arrays.detach(one.name)
        await lives.settle(service)
    assert (await admin.members.get(one.name)).state is MemberState.STANDALONE


@pytest.mark.faults
@pytest.mark.timeout(300)
@pytest.mark.parametrize("failpoint", CHOSEN)
@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
async def test_a_life_that_is_cut_off_at_a_failpoint_ends_as_any_other(
    failpoint: str,
    database: str,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    print(f"KEYREEVE_SEED={SEED}")
    lives = Lives(tmp_path, fresh_url(database, request), failpoint)
    monkeypatch.setattr(failpoints, "hit", lives.hit)
    await lives.through(lives.begin_agents)
    for change in (join, promote, roll_back, detach):
        await lives.through(lambda service, change=change: change(service, lives))
    assert lives.passed >= lives.passage, "the life passes its failpoint"

    async def verify(service: RunningMembership) -> None:
        client: aio.Client = await service.client()
        admin = client.membership
        for array in [one async for one in admin.arrays.list()]:
            members = [one async for one in admin.members.list(array=array.name)]
            assert [one.primary for one in members] == [True]
            assert array.change == ""
            authority = array.authority.removeprefix("authorities/")
            owned = {
                one: lives.authorities.known[one].state
                for one, owner in lives.authorities.owners.items()
                if owner == array.name.removeprefix("arrays/")
            }
            active = [one for one, state in owned.items() if state is CaState.ACTIVE]
            assert active == [authority], f"one CA issues for an array: {owned}"
            for member in members:
                assert member.report is not None
                assert member.report.status.authority == array.authority
                assert member.report.disagreements == ()
        assert {one.state async for one in admin.operations.list()} <= {
            OperationState.SUCCEEDED,
            OperationState.CANCELLED,
        }

    await lives.through(verify)
