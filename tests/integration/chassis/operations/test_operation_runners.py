"""The operation runner on both databases: steps, failures, cancellations, and one leader among replicas."""

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

import pytest

from keyreeve import errors
from keyreeve_ca.store.ports import Transaction
from keyreeve_ca.store.sql import CaStore
from keyreeve_chassis.database.ports import Store, Wait, polling
from keyreeve_chassis.leases.leadership import Leadership
from keyreeve_chassis.leases.ports import LeaseLost
from keyreeve_chassis.operations.ports import Operation, OperationState, Waiting
from keyreeve_chassis.operations.runner import OperationRunner
from keyreeve_chassis.operations.steps import Step, advance_operation, ended_operation
from support.databases import CaBench, CaDatabase
from support.ledger_entries import NOW

COUNT, OTHER = "/test.Counting/Count", "/test.Counting/CountElsewhere"
LONG, SHORT = 30.0, 1.5
POLLING = polling(0.01)


def begun(method: str = COUNT, total: int = 3, number: int = 0) -> Operation:
    made = Operation.begin(method, "spiffe://example.test/operators/admin/ann", "counting", {"total": total}, NOW)
    return replace(made, operation_id=f"{number:04}-{made.operation_id}")


@dataclass
class Steps:
    """Steps that count, and the operations that had one, in order."""

    rests: float = 0.0
    served: list[str] = field(default_factory=list)
    before: Callable[[Operation], Awaitable[None]] | None = None
    """Done in each step before it commits."""

    async def __call__(self, store: Store[Transaction], operation: Operation) -> float:
        self.served.append(operation.operation_id)
        if self.before is not None:
            await self.before(operation)
        done = operation.done + 1
        after = replace(operation, done=done, position=bytes([done]))
        if done == operation.arguments["total"]:
            after = ended_operation(after, OperationState.SUCCEEDED, NOW)

        def work(tx: Transaction) -> None:
            if advance_operation(tx, operation, after, NOW):
                tx.bump_config()

        await store.write(work)
        return self.rests


@asynccontextmanager
async def running(
    store: CaStore,
    steps: dict[str, Step[Transaction]],
    owner: str = "one",
    *,
    lease: float = LONG,
    wait: Wait = POLLING,
) -> AsyncIterator["asyncio.Task[None]"]:
    leadership: Leadership[Transaction] = Leadership(store, "operations", owner, lease)
    task = asyncio.ensure_future(OperationRunner(leadership, steps, lambda: NOW, wait).run())
    try:
        yield task
    finally:
        task.cancel()
        [outcome] = await asyncio.gather(task, return_exceptions=True)
        assert isinstance(outcome, asyncio.CancelledError), outcome


async def add(store: CaStore, *operations: Operation) -> None:
    await store.write(lambda tx: [tx.operations.add(one) for one in operations])


async def get(store: CaStore, operation: Operation) -> Operation:
    found = await store.read(lambda tx: tx.operations.get(operation.operation_id))
    assert found is not None
    return found


async def ended(store: CaStore, *operations: Operation) -> list[Operation]:
    """The operations once they have ended."""
    async with asyncio.timeout(30):
        while any([(await get(store, one)).state is OperationState.RUNNING for one in operations]):  # noqa: ASYNC110
            await asyncio.sleep(0)
    return [await get(store, one) for one in operations]


async def counted(bench: CaBench) -> int:
    """Steps that were committed."""
    state = await bench.store.read(lambda tx: tx.control_plane())
    assert state is not None
    return state.config_version - 1


async def test_operations_are_run_to_their_end_and_then_there_is_no_leader(ca_bench: CaBench) -> None:
    one, two = begun(number=1), begun(total=2, number=2)
    steps = Steps()
    async with running(ca_bench.store, {COUNT: steps}):
        await add(ca_bench.store, one, two)
        for operation in await ended(ca_bench.store, one, two):
            assert operation.state is OperationState.SUCCEEDED
            assert operation.done == operation.arguments["total"]
            assert operation.ended_at == NOW
        async with asyncio.timeout(30):
            while await ca_bench.store.read(lambda tx: tx.leases.current("operations")):  # noqa: ASYNC110
                await asyncio.sleep(0)
        later = begun()
        await add(ca_bench.store, later)
        await ended(ca_bench.store, later)
    assert steps.served == [one.operation_id] * 3 + [two.operation_id] * 2 + [later.operation_id] * 3
    assert await counted(ca_bench) == 8


async def test_one_long_operation_does_not_block_those_of_another_method(ca_bench: CaBench) -> None:
    long, after, short = begun(total=200, number=1), begun(number=2), begun(OTHER, number=3)
    steps = Steps()
    await add(ca_bench.store, long, after, short)
    async with running(ca_bench.store, {COUNT: steps, OTHER: steps}):
        await ended(ca_bench.store, short)
        assert steps.served[:6] == [long.operation_id, short.operation_id] * 3
        assert (await get(ca_bench.store, after)).done == 0


@pytest.mark.parametrize(
    ("failure", "reason", "message"),
    [
        (errors.ProfileNotFound("there is no profile 'x'"), "PROFILE_NOT_FOUND", "there is no profile 'x'"),
        (ZeroDivisionError("secret"), "INTERNAL", "the operation met an error that the service's log describes"),
    ],
)
async def test_an_operation_fails_with_the_reason_of_its_step(
    ca_bench: CaBench, failure: Exception, reason: str, message: str
) -> None:
    async def fail(operation: Operation) -> None:
        if operation.operation_id == bad.operation_id and operation.done == 1:
            raise failure

    bad, good = replace(begun(number=1), waiting=(Waiting("members/web-1", "restart", NOW),)), begun(number=2)
    await add(ca_bench.store, bad, good)
    async with running(ca_bench.store, {COUNT: Steps(before=fail)}):
        failed, succeeded = await ended(ca_bench.store, bad, good)
    assert (failed.state, failed.error_reason, failed.error_message) == (OperationState.FAILED, reason, message)
    assert (failed.done, failed.ended_at, failed.waiting) == (1, NOW, ())
    assert succeeded.state is OperationState.SUCCEEDED


async def test_a_step_is_repeated_when_something_was_unavailable(
    ca_bench: CaBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("keyreeve_chassis.operations.runner._RETRY_SECONDS", 0.01)
    told: list[errors.KeyreeveError] = [errors.StoreUnavailable("no answer"), errors.ServiceUnreachable("no answer")]

    async def fail_twice(_operation: Operation) -> None:
        if told:
            raise told.pop()

    operation = begun()
    await add(ca_bench.store, operation)
    async with running(ca_bench.store, {COUNT: Steps(before=fail_twice)}):
        [found] = await ended(ca_bench.store, operation)
    assert (found.state, found.done, told) == (OperationState.SUCCEEDED, 3, [])


async def test_a_database_that_does_not_answer_for_a_while_is_tried_again(
    ca_bench: CaBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("keyreeve_chassis.operations.runner._RETRY_SECONDS", 0.01)
    operation, reads = begun(), 0

    class Failing:
        """A store that fails while there is no leader, while one is about to acquire, and while it leads."""

        write, write_beside = ca_bench.store.write, ca_bench.store.write_beside

        async def read(self, work: Callable[[Transaction], object], *, one_statement: bool = False) -> object:
            nonlocal reads
            reads += 1
            if reads in {1, 3, 6, 8}:
                raise errors.StoreUnavailable("no answer")
            return await ca_bench.store.read(work, one_statement=one_statement)

    await add(ca_bench.store, operation)
    async with running(Failing(), {COUNT: Steps()}):
        [found] = await ended(ca_bench.store, operation)
    assert (found.state, found.done) == (OperationState.SUCCEEDED, 3)
    assert reads > 8


async def test_an_operation_is_cancelled_between_two_steps_or_in_one(ca_bench: CaBench) -> None:
    at_rest, in_a_step = begun(total=9, number=1), begun(OTHER, total=9, number=2)

    async def cancel(operation: Operation) -> None:
        if operation.done == 1:
            await ca_bench.store.write(lambda tx: tx.operations.request_cancel(operation.operation_id))

    await add(ca_bench.store, at_rest, in_a_step)
    async with running(ca_bench.store, {COUNT: Steps(rests=3600.0), OTHER: Steps(before=cancel)}):
        [found] = await ended(ca_bench.store, in_a_step)
        assert (found.state, found.done) == (OperationState.CANCELLED, 1)
        await ca_bench.store.write(lambda tx: tx.operations.request_cancel(at_rest.operation_id))
        [found] = await ended(ca_bench.store, at_rest)
    assert (found.state, found.done, found.ended_at) == (OperationState.CANCELLED, 1, NOW)


async def test_operations_are_looked_at_when_something_may_have_changed(ca_bench: CaBench) -> None:
    asked: list[float] = []
    changed, waits = asyncio.Event(), asyncio.Event()

    async def wait(seconds: float) -> None:
        asked.append(seconds)
        waits.set()
        await changed.wait()
        changed.clear()

    one, two = begun(total=2, number=1), begun(number=2)
    async with running(ca_bench.store, {COUNT: Steps(rests=0.2)}, wait=wait):
        await waits.wait()
        await add(ca_bench.store, one, two)
        changed.set()
        await ended(ca_bench.store, one, two)
    assert asked in ([math.inf], [math.inf] * 2), "a short rest is no reason to look"


async def test_an_operation_of_an_unknown_method_is_left_alone(ca_bench: CaBench) -> None:
    unknown, known = begun("/test.Newer/Method", number=1), begun(number=2)
    await add(ca_bench.store, unknown, known)
    async with running(ca_bench.store, {COUNT: Steps()}):
        await ended(ca_bench.store, known)
    assert await get(ca_bench.store, unknown) == unknown


async def test_an_operation_goes_on_from_its_last_committed_step(ca_bench: CaBench) -> None:
    reached = asyncio.Event()

    async def hang(operation: Operation) -> None:
        if operation.done == 2:
            reached.set()
            await asyncio.Event().wait()

    operation = begun(total=4)
    await add(ca_bench.store, operation)
    async with running(ca_bench.store, {COUNT: Steps(before=hang)}):
        await reached.wait()
    second = Steps()
    async with running(ca_bench.store, {COUNT: second}, "two"):
        [found] = await ended(ca_bench.store, operation)
    assert (found.done, len(second.served)) == (4, 2)
    assert await counted(ca_bench) == 4


async def test_one_replica_leads_and_the_other_takes_over(postgresql_database: CaDatabase) -> None:
    """The leader's process stops in the middle of a step, wakes when another one leads, and commits nothing."""
    bench = await CaBench.on(postgresql_database)
    other = postgresql_database.store(postgresql_database.database())
    stopped, woken = asyncio.Event(), asyncio.Event()

    class Stopping:
        """The first one's store: it renews no more once its process has stopped."""

        read, write = bench.store.read, bench.store.write

        async def write_beside(self, work: Callable[[Transaction], object]) -> object:
            if stopped.is_set():
                await asyncio.Event().wait()
            return await bench.store.write_beside(work)

    async def stop(operation: Operation) -> None:
        if operation.done == 2:
            stopped.set()
            try:
                await woken.wait()
            except asyncio.CancelledError:
                await woken.wait()  # it has not noticed that its time is over

    first, second = Steps(before=stop), Steps()
    late: list[BaseException] = []

    async def step(store: Store[Transaction], operation: Operation) -> float:
        try:
            return await first(store, operation)
        except LeaseLost as lost:
            late.append(lost)
            raise

    operation = begun(total=5)
    await add(bench.store, operation)
    async with running(Stopping(), {COUNT: step}, lease=SHORT):
        await stopped.wait()
        async with running(other, {COUNT: second}, "two"):
            [found] = await ended(bench.store, operation)
            woken.set()
            async with asyncio.timeout(30):
                while not late:  # noqa: ASYNC110
                    await asyncio.sleep(0)
    assert (found.state, found.done) == (OperationState.SUCCEEDED, 5)
    assert len(second.served) == 3, "it goes on where the first one stopped"
    assert await counted(bench) == 5, "no step was committed twice"
