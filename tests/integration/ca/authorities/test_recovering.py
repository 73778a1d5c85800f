"""Recovery over the local socket after a long shutdown, with a moved clock, on both databases."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from keyreeve import errors
from keyreeve.keys import make_csr, make_key
from keyreeve.values import AuthorityState
from keyreeve_ca import local_admin
from keyreeve_ca.coordinator import RunningCoordinator, run_coordinator
from keyreeve_ca.halt.service import HaltSwitch
from keyreeve_ca.operators.ports import Actor
from keyreeve_ca.settings import CaSettings
from keyreeve_ca.worker import run_worker
from support.running_ca import Clock, place_for_ca

pytestmark = pytest.mark.sqlite_first

DAY = 86_400
YEAR = 366 * DAY


@pytest.fixture(params=["sqlite", "postgresql"])
def asleep(request: pytest.FixtureRequest):
    """Settings of a CA that has run once, and the clock that tells it when it is."""
    with place_for_ca(request.param, request) as (_, settings):
        clock = Clock()

        async def once() -> None:
            async with run_coordinator(settings, now=clock.now), run_worker(settings, 0, now=clock.now):
                await admit(settings)

        asyncio.run(once())
        yield settings, clock


async def admit(settings: CaSettings) -> dict[str, str]:
    return await local_admin.first_operator(settings.coordinator_socket, "root", make_csr(make_key()))


async def recover(settings: CaSettings) -> Any:
    return json.loads(json.dumps(await local_admin.recover(settings.coordinator_socket)))


@asynccontextmanager
async def waking(
    settings: CaSettings, now: Callable[[], int]
) -> AsyncIterator[tuple[RunningCoordinator, Awaitable[int]]]:
    """A coordinator, and a worker that may have to wait before it serves."""
    async with run_coordinator(settings, now=now) as coordinator:
        serves: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        stop = asyncio.Event()

        async def work() -> None:
            async with run_worker(settings, 0, now=now) as serving:
                serves.set_result(serving.port)
                await stop.wait()

        worker = asyncio.create_task(work())
        try:
            yield coordinator, serves
        finally:
            stop.set()
            if not serves.done():
                worker.cancel()
            await asyncio.gather(worker, return_exceptions=True)


async def authorities(coordinator: RunningCoordinator) -> dict[str, AuthorityState]:
    rows = await coordinator.issuance.store.read(lambda tx: tx.authorities())
    return {row.authority_id: row.state for row in rows}


async def test_after_a_month_there_is_nothing_to_replace_and_the_roots_are_the_same(asleep) -> None:
    settings, clock = asleep
    async with waking(settings, clock.now) as (_, serves):
        await serves
        before = await admit(settings)
    clock.offset = 31 * DAY
    async with waking(settings, clock.now) as (_, serves):
        assert await recover(settings) == {"replacements": [], "dead_hierarchies": []}
        assert await serves
        after = await admit(settings)
    assert after["control_bundle_pem"] == before["control_bundle_pem"]
    assert after["estate_bundle_pem"] == before["estate_bundle_pem"]
    assert int(after["not_after"]) > int(before["not_after"]) + 30 * DAY


async def test_after_three_years_the_issuing_cas_are_replaced_under_the_same_roots(asleep) -> None:
    settings, clock = asleep
    clock.offset = 3 * YEAR
    async with waking(settings, clock.now) as (coordinator, serves):
        with pytest.raises(errors.AuthorityExpiring):
            await admit(settings)
        assert not serves.done()  # type: ignore[attr-defined]
        reports = await asyncio.gather(*(recover(settings) for _ in range(2)))
        made = [one for report in reports for one in report["replacements"]]
        assert sorted((one["authority"], tuple(one["expired"]), one["root"]) for one in made) == [
            ("control-issuing-2", ("control-issuing-1",), "control-root-1"),
            ("estate-issuing-2", ("estate-issuing-1",), "estate-root-1"),
        ]
        assert await serves
        admitted = await admit(settings)
        assert await recover(settings) == {"replacements": [], "dead_hierarchies": []}
        states = await authorities(coordinator)
    assert states["control-issuing-1"] is AuthorityState.RETIRING
    assert states["control-issuing-2"] is states["control-root-1"] is AuthorityState.ACTIVE
    assert len(states) == 6
    assert int(admitted["not_after"]) > clock.now()


async def test_halted_issuance_does_not_keep_the_cure_from_working(asleep) -> None:
    settings, clock = asleep
    async with waking(settings, clock.now) as (coordinator, _):
        switch = HaltSwitch(clock.now, resume_needs_two=False)
        await coordinator.issuance.store.write(lambda tx: switch.halt(tx, Actor("ann", "ann"), "a key may be out"))
    clock.offset = 3 * YEAR
    async with waking(settings, clock.now) as (coordinator, serves):
        report = await recover(settings)
        assert len(report["replacements"]) == 2
        assert await serves
        assert (await admit(settings))["role"] == "operators/admin"
        assert (await coordinator.issuance.store.read(lambda tx: tx.halt.state())).halted


async def test_when_the_roots_have_expired_too_recovery_says_that_it_cannot_help(asleep) -> None:
    settings, clock = asleep
    clock.offset = 11 * YEAR
    async with waking(settings, clock.now):
        report = await recover(settings)
    assert report == {"replacements": [], "dead_hierarchies": ["control", "estate"]}
