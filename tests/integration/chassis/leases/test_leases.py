"""Leases on both databases: one owner at a time, fences that rise, and nothing committed without the lease."""

import asyncio
import threading
from collections.abc import Awaitable, Callable

import pytest

from keyreeve import errors
from keyreeve_ca.store.ports import Transaction
from keyreeve_ca.store.sql import CaStore
from keyreeve_chassis.leases.leadership import FencedStore, Leadership
from keyreeve_chassis.leases.ports import Lease, LeaseLost
from support.databases import CaBench, CaDatabase
from support.ledger_entries import NOW

NAME = "rotation"
LONG = 60.0
SHORT = 1.5


@pytest.fixture
async def postgresql_bench(postgresql_database: CaDatabase) -> CaBench:
    return await CaBench.on(postgresql_database)


async def acquire(store: CaStore, owner: str, seconds: float = LONG, *, take_over: bool = False) -> Lease | None:
    return await store.write_beside(lambda tx: tx.leases.acquire(NAME, owner, seconds, take_over=take_over))


async def current(store: CaStore) -> Lease | None:
    return await store.read(lambda tx: tx.leases.current(NAME), one_statement=True)


async def expire(bench: CaBench) -> None:
    await bench.execute("UPDATE leases SET expires_ms = 1")


async def version(store: CaStore) -> int:
    state = await store.read(lambda tx: tx.control_plane())
    assert state is not None
    return state.config_version


def another_store(bench: CaBench) -> CaStore:
    """Another process's store: on SQLite only one process writes."""
    return bench.store if bench.database.is_sqlite else bench.database.store(bench.database.database())


# --- The records --------------------------------------------------------------------------------------------------------


async def test_a_lease_is_acquired_once_until_it_expires_and_its_fence_rises(ca_bench: CaBench) -> None:
    store = ca_bench.store
    assert await current(store) is None
    first = await acquire(store, "one")
    assert first == Lease(NAME, 1, "one")
    assert await acquire(store, "two") is None
    assert await current(store) == first
    await expire(ca_bench)
    assert await current(store) is None
    assert await acquire(store, "two") == Lease(NAME, 2, "two")
    assert await store.write_beside(lambda tx: tx.leases.acquire("another name", "one", LONG)) is not None


async def test_a_lease_that_was_released_or_taken_over_keeps_its_fence(ca_bench: CaBench) -> None:
    store = ca_bench.store
    await acquire(store, "one")
    await store.write_beside(lambda tx: tx.leases.release(NAME, "two"))
    assert await current(store) == Lease(NAME, 1, "one"), "another owner cannot release it"
    await store.write_beside(lambda tx: tx.leases.release(NAME, "one"))
    assert await current(store) is None
    assert await acquire(store, "one") == Lease(NAME, 2, "one")
    assert await acquire(store, "two", take_over=True) == Lease(NAME, 3, "two")


@pytest.mark.parametrize("act", ["renew", "check"])
async def test_only_the_owner_of_an_unexpired_lease_renews_and_writes_under_it(ca_bench: CaBench, act: str) -> None:
    store = ca_bench.store

    async def attempt(lease: Lease) -> None:
        if act == "renew":
            await store.write_beside(lambda tx: tx.leases.renew(lease, LONG))
        else:
            await FencedStore(store, lease).write(lambda tx: tx.bump_config())

    held = await acquire(store, "one")
    assert held is not None
    await attempt(held)
    before = await version(store)
    for other in (Lease(NAME, held.fence - 1, "one"), Lease(NAME, held.fence, "two"), Lease("other", 1, "one")):
        with pytest.raises(LeaseLost):
            await attempt(other)
    await expire(ca_bench)
    with pytest.raises(LeaseLost, match="rotation"):
        await attempt(held)
    assert await version(store) == before, "without the lease nothing is committed"


async def test_time_is_the_services_on_sqlite_and_the_databases_on_postgresql(ca_bench: CaBench) -> None:
    assert await acquire(ca_bench.store, "one", 30) is not None
    ca_bench.store._now = lambda: NOW + 31
    later = await acquire(ca_bench.store, "two")
    assert later == (Lease(NAME, 2, "two") if ca_bench.database.is_sqlite else None)


async def test_of_many_who_acquire_at_once_one_does(postgresql_bench: CaBench) -> None:
    database = postgresql_bench.database
    stores = [database.store(database.database()) for _ in range(6)]
    for fence in range(1, 4):
        acquired = await asyncio.gather(*(acquire(store, str(number)) for number, store in enumerate(stores)))
        [one] = [lease for lease in acquired if lease is not None]
        assert one.fence == fence
        await expire(postgresql_bench)


async def test_a_lease_cannot_be_acquired_while_a_transaction_writes_under_it(postgresql_bench: CaBench) -> None:
    leader, other = postgresql_bench.store, another_store(postgresql_bench)
    lease = await acquire(leader, "one", SHORT)
    assert lease is not None
    checked, go_on, order = threading.Event(), threading.Event(), []

    def write(tx: Transaction) -> None:
        checked.set()
        go_on.wait(30)
        tx.bump_config()
        order.append("written")

    writing = asyncio.ensure_future(FencedStore(leader, lease).write_beside(write))
    await asyncio.to_thread(checked.wait)
    await until(lambda: expired(other))
    acquiring = asyncio.ensure_future(acquire(other, "two"))
    await until(lambda: waits_for_a_lock(other))
    order.append("waited")
    go_on.set()
    await writing
    assert await acquiring == Lease(NAME, 2, "two")
    assert order == ["waited", "written"]


async def expired(store: CaStore) -> bool:
    return await current(store) is None


async def waits_for_a_lock(store: CaStore) -> bool:
    found = await store._reader.read(
        lambda c: c.exec_driver_sql("SELECT count(*) FROM pg_locks WHERE NOT granted").scalar_one()
    )
    return bool(found)


async def until(seen: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(30):
        while not await seen():  # noqa: ASYNC110 - the database tells nobody
            await asyncio.sleep(0)


# --- Leadership ---------------------------------------------------------------------------------------------------------


def leadership(store: CaStore, owner: str, seconds: float = LONG) -> Leadership[Transaction]:
    return Leadership(store, NAME, owner, seconds)


class Leader:
    """Leads in a task until it is told to end."""

    def __init__(self, leads: Leadership[Transaction]) -> None:
        self.began, self.end = asyncio.Event(), asyncio.Event()
        self.cancelled = False
        self.task = asyncio.ensure_future(leads.lead(self.work))

    async def work(self, store: FencedStore[Transaction]) -> None:
        self.store = store
        self.began.set()
        try:
            await self.end.wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise


async def test_one_leads_until_its_work_is_done_and_then_another(ca_bench: CaBench) -> None:
    first = Leader(leadership(ca_bench.store, "one"))
    await first.began.wait()
    other = leadership(another_store(ca_bench), "two")
    assert not await other.lead(first.work)
    held = await current(ca_bench.store)
    assert held is not None
    assert held.owner_nonce.startswith("one#")
    await first.store.write(lambda tx: tx.bump_config())
    first.end.set()
    assert await first.task is True
    assert await current(ca_bench.store) is None, "released"
    second = Leader(other)
    await second.began.wait()
    second.end.set()
    assert await second.task is True


async def test_a_leader_that_is_stopped_releases_the_lease(ca_bench: CaBench) -> None:
    first = Leader(leadership(ca_bench.store, "one"))
    await first.began.wait()
    first.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first.task
    assert first.cancelled
    assert await current(ca_bench.store) is None


async def test_one_that_is_stopped_while_it_acquires_releases_the_lease(ca_bench: CaBench) -> None:
    acquired = asyncio.Event()

    class Slow(Leadership[Transaction]):
        def _acquire(self, tx: Transaction, nonce: str) -> Lease | None:
            lease = super()._acquire(tx, nonce)
            loop.call_soon_threadsafe(acquired.set)
            return lease

    loop = asyncio.get_running_loop()
    leader = Leader(Slow(ca_bench.store, NAME, "one"))
    await acquired.wait()
    leader.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leader.task
    assert await current(ca_bench.store) is None


async def test_an_error_of_the_work_ends_the_leadership(ca_bench: CaBench) -> None:
    async def work(_store: object) -> None:
        raise errors.ProfileNotFound("none")

    with pytest.raises(errors.ProfileNotFound):
        await leadership(ca_bench.store, "one").lead(work)
    assert await current(ca_bench.store) is None


async def test_a_lease_is_renewed_while_its_leader_works(postgresql_bench: CaBench) -> None:
    leader = Leader(leadership(postgresql_bench.store, "one", SHORT))
    await leader.began.wait()
    first = await expiry(postgresql_bench)
    await until(lambda: is_later(postgresql_bench, first + SHORT * 1000))
    assert not leader.cancelled
    leader.end.set()
    assert await leader.task is True


async def expiry(bench: CaBench) -> int:
    return await bench.writer.read(lambda c: c.exec_driver_sql("SELECT expires_ms FROM leases").scalar_one())


async def is_later(bench: CaBench, moment: float) -> bool:
    return await expiry(bench) > moment


async def test_a_leader_that_loses_the_lease_is_cancelled_and_commits_nothing(ca_bench: CaBench) -> None:
    leader = Leader(leadership(ca_bench.store, "one", SHORT))
    await leader.began.wait()
    other = await acquire(another_store(ca_bench), "two", take_over=True)
    assert other is not None
    before = await version(ca_bench.store)
    with pytest.raises(LeaseLost):
        await leader.store.write(lambda tx: tx.bump_config())
    assert await leader.task is False
    assert leader.cancelled
    with pytest.raises(LeaseLost):
        await leader.store.write_beside(lambda tx: tx.bump_config())
    assert await version(ca_bench.store) == before
    assert await current(ca_bench.store) == other, "what another has acquired is not released"


async def test_a_write_without_the_lease_ends_the_work(ca_bench: CaBench) -> None:
    async def work(store: FencedStore[Transaction]) -> None:
        await expire(ca_bench)
        await store.write(lambda tx: tx.bump_config())

    assert await leadership(ca_bench.store, "one").lead(work) is False


@pytest.mark.parametrize("hangs", [False, True])
async def test_a_leader_whose_database_does_not_answer_ends_when_its_lease_has_run_out(
    ca_bench: CaBench, *, hangs: bool
) -> None:
    failed: list[str] = []

    class Failing:
        """A store that no longer answers once there is a leader."""

        read, write = ca_bench.store.read, ca_bench.store.write

        async def write_beside(self, work: Callable[[Transaction], object]) -> object:
            if not leader.began.is_set():
                return await ca_bench.store.write_beside(work)
            failed.append("renew")
            if hangs:
                await asyncio.Event().wait()
            raise errors.StoreUnavailable("no answer")

    leader = Leader(leadership(Failing(), "one", SHORT))
    assert await leader.task is False
    assert leader.cancelled
    assert failed


async def test_a_process_that_is_alone_takes_over_what_its_predecessor_left(sqlite_database) -> None:
    bench = await CaBench.on(sqlite_database)
    left = await acquire(bench.store, "killed")
    assert left is not None
    assert not await leadership(bench.store, "one").lead(lambda _: asyncio.sleep(0))
    assert await Leadership(bench.store, NAME, "one", LONG, alone=True).lead(lambda _: asyncio.sleep(0))
    with pytest.raises(LeaseLost):
        await FencedStore(bench.store, left).write(lambda tx: tx.bump_config())
