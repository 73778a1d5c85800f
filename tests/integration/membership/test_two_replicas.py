"""Two replicas on one PostgreSQL database: one leads, the other goes on where it ends, and agents call either."""

from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from fakes.array_authorities import FakeArrayAuthorities
from keyreeve.membership_values import MemberState
from keyreeve.operation_values import OperationState
from support.membership import fresh_url, membership_settings, running_membership


async def test_what_one_replica_began_the_other_completes(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    url, authorities = fresh_url("postgresql", request), FakeArrayAuthorities()
    places = [tmp_path / name for name in ("first", "second")]
    for place in places:
        place.mkdir()
    first_settings = membership_settings(places[0], url)
    second_settings = membership_settings(places[1], url).model_copy(
        update={"instance": "two", "keys": first_settings.keys.model_copy(update={"file": first_settings.kek_file})}
    )
    async with AsyncExitStack() as second_stack:
        async with running_membership(places[0], first_settings, authorities) as first:
            second = await second_stack.enter_async_context(running_membership(places[1], second_settings, authorities))
            second.peers.boots = first.peers.boots  # either dials the same agents
            agents = await first.array_of("one.example.test", "two.example.test")
            one, two = agents
            begun = await (await first.client()).membership.arrays.promote(two.name)
            await two.report()
        # The first replica has ended; its lease is released or expires.
        for agent in agents:
            agent.service, agent.client = second, await second.client(f"members/{agent.name}")
        assert (await second.until(begun.name, agents, 40)).state is OperationState.SUCCEEDED
        members = [member async for member in (await second.client()).membership.members.list(array=one.array)]
        assert [(member.name, member.primary, member.state) for member in members] == [
            (one.resource, False, MemberState.MEMBER),
            (two.resource, True, MemberState.MEMBER),
        ]
        fences = [order.fence for _, _, order in authorities.orders if order.array_id == one.array.partition("/")[2]]
        assert fences == sorted(fences), "orders of an older leader are refused"
