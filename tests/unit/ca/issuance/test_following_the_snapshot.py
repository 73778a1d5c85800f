"""Following changes: snapshots read once for many callers, and a fresh serving certificate."""

import asyncio
from contextlib import AsyncExitStack
from dataclasses import replace

import pytest

from fakes.signing_path import settle, snapshot
from keyreeve import errors
from keyreeve.values import AuthorityState
from keyreeve_ca.issuance.serving_certificate import Credentials, ServingCertificate
from keyreeve_ca.issuance.snapshot import LiveSnapshot
from keyreeve_chassis.database.ports import polling
from keyreeve_chassis.processes.lifecycle import run_tasks

DAY = 86_400


class SlowStore:
    """Reads one after the other, when told to."""

    def __init__(self):
        self.version, self.reads = 1, 0
        self.go = asyncio.Semaphore(0)

    async def read(self, work, *, one_statement=False):
        self.reads += 1
        version = self.version
        await self.go.acquire()
        return work(version)


def live(store):
    return LiveSnapshot(store, lambda version, _before: snapshot(config_version=version))


async def test_who_asks_while_a_snapshot_is_being_read_shares_the_next_one():
    store = SlowStore()
    following = live(store)
    first = asyncio.create_task(following.reload())
    await settle()
    store.version = 2
    others = [asyncio.create_task(following.reload()) for _ in range(10)]
    await settle()
    store.go.release()
    await first
    assert following.current().config_version == 1
    store.go.release()
    await asyncio.gather(*others)
    assert following.current().config_version == 2, "it began after they asked"
    assert store.reads == 2


async def test_a_reading_that_fails_fails_those_who_wait_for_it_and_not_the_next():
    store = SlowStore()
    loads = iter([errors.StoreUnavailable("away"), None])

    def load(version, _before):
        failure = next(loads)
        if failure is not None:
            raise failure
        return snapshot(config_version=version)

    following = LiveSnapshot(store, load)
    store.go.release()
    store.go.release()
    with pytest.raises(errors.StoreUnavailable):
        await following.reload()
    await following.reload()
    assert following.current().config_version == 1


async def test_a_change_wakes_those_who_wait_for_it():
    store = SlowStore()
    following = live(store)
    store.go.release()
    await following.reload()
    waiting = asyncio.create_task(following.changed_since(1))
    await settle()
    store.go.release()
    await following.reload()
    await settle()
    assert not waiting.done(), "nothing has changed yet"
    store.version = 2
    store.go.release()
    await following.reload()
    await asyncio.wait_for(waiting, 5)


async def test_following_outlasts_a_database_that_is_away_and_ends_the_process_for_anything_else():
    """Nobody would notice a snapshot that is followed no longer."""
    failures = [errors.StoreUnavailable("away"), ValueError("a document that nobody can read")]

    class FailingStore:
        async def read(self, work, *, one_statement=False):
            raise failures.pop(0)

    async with AsyncExitStack() as stack:
        background = run_tasks(stack, [live(FailingStore()).follow(polling(0.0))])
        with pytest.raises(ValueError, match="nobody can read"):
            await asyncio.wait_for(background, 60)
    assert failures == []


class Own:
    """An `ServingCertificate` whose renewals are counted."""

    def __init__(self, *, age, life=DAY):
        self.known = snapshot()
        self.changed = asyncio.Event()
        self.now = 1_800_000_000
        self.renewals = asyncio.Semaphore(0)
        self.certificate = ServingCertificate(None, lambda: self.known, self._changed_since, "one", lambda: self.now)
        self.certificate.renew = self._renew
        self._issue(age, life)

    def _issue(self, age, life=DAY):
        begin = self.now - age
        self.certificate.current = Credentials(b"", b"", 0, "estate-issuing", begin, begin + life)

    async def _changed_since(self, version):
        while self.known.config_version == version:
            await self.changed.wait()
            self.changed.clear()

    async def _renew(self):
        self._issue(0)
        self.known = snapshot(config_version=self.known.config_version)
        self.renewals.release()

    def change(self, state):
        known = snapshot(config_version=self.known.config_version + 1)
        row = replace(known.authorities["estate-issuing"], state=state)
        self.known = replace(known, authorities={"estate-issuing": row})
        self.changed.set()

    async def is_renewed(self):
        """Whether it is renewed as soon as everything has run."""
        task = asyncio.create_task(self.certificate.keep_fresh())
        await settle()
        task.cancel()
        return not self.renewals.locked()


@pytest.mark.parametrize(
    ("age", "expected"), [(0, False), (DAY * 2 // 3 - 1, False), (DAY * 2 // 3, True), (DAY, True)]
)
async def test_a_certificate_is_renewed_at_two_thirds_of_its_life(age, expected):
    assert await Own(age=age).is_renewed() == expected


async def test_a_certificate_that_ends_with_its_authority_is_not_renewed_all_the_time():
    own = Own(age=0, life=3600)
    assert not await own.is_renewed()


@pytest.mark.parametrize(
    ("state", "expected"),
    [(AuthorityState.ACTIVE, False), (AuthorityState.RETIRING, False), (AuthorityState.REVOKED, True)],
)
async def test_it_is_renewed_at_once_when_its_authority_is_no_longer_trusted_and_for_no_other_change(state, expected):
    own = Own(age=0)
    task = asyncio.create_task(own.certificate.keep_fresh())
    await settle()
    own.change(state)
    await settle()
    assert (not own.renewals.locked()) == expected
    task.cancel()
