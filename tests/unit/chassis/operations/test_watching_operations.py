"""WatchOperation: what it sends, when it looks, and what it waits with."""

import asyncio
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from keyreeve import errors
from keyreeve.identity import Caller, Role, SpiffeId
from keyreeve.operations.v1 import operation_service_pb2 as pb
from keyreeve_chassis.database.ports import polling
from keyreeve_chassis.guard.call import Call
from keyreeve_chassis.idempotency.mutation import Mutations
from keyreeve_chassis.operations.ports import Operation, OperationState, Waiting
from keyreeve_chassis.operations.servicer import OperationServicer, operation_message

ANN = Caller(SpiffeId.parse("spiffe://example.test/operators/admin/ann"), Role.ADMIN, 1)
WATCH = "/keyreeve.operations.v1.OperationService/WatchOperation"
BEGUN = Operation("1", "/x/Y", str(ANN), OperationState.RUNNING, "", {}, b"", 0, 2, 1_000, 1_000)


@dataclass
class Records:
    """The one operation, as the store and the transaction show it; each read is counted."""

    operation: Operation = BEGUN
    reads: int = 0

    async def read(self, work: Callable[[Any], Any], *, one_statement: bool = False) -> Any:
        self.reads += 1
        return work(self)

    @property
    def operations(self) -> "Records":
        return self

    def get(self, operation_id: str) -> Operation | None:
        return self.operation if operation_id == self.operation.operation_id else None


@dataclass
class Changes:
    """A wake-up hook that the test pulls."""

    asked: list[float] = field(default_factory=list)
    told: "asyncio.Queue[None]" = field(default_factory=asyncio.Queue)
    waits: asyncio.Event = field(default_factory=asyncio.Event)

    async def wait(self, seconds: float) -> None:
        self.asked.append(seconds)
        self.waits.set()
        await self.told.get()
        self.waits.clear()


def watched(records: Records, *follow: Any) -> Any:
    servicer = OperationServicer(records, Mutations(records), None, *follow)  # type: ignore[arg-type]
    return servicer.WatchOperation(pb.WatchOperationRequest(name="operations/1"), Call(WATCH, ANN))


async def test_an_operation_is_sent_when_it_has_changed_and_looked_at_when_the_hook_returns() -> None:
    records, changes = Records(), Changes()
    stream = watched(records, lambda: changes.wait)
    assert (await anext(stream)).done == 0
    following = asyncio.ensure_future(anext(stream))
    await changes.waits.wait()
    changes.told.put_nowait(None)
    await asyncio.sleep(0)
    await changes.waits.wait()
    assert (records.reads, following.done()) == (2, False), "nothing has changed: nothing is sent"
    records.operation = replace(BEGUN, done=1, waiting=(Waiting("members/web-1", "restart", 1_500),))
    changes.told.put_nowait(None)
    sent = await following
    assert sent.done == 1
    [waiting] = sent.waiting
    assert (waiting.resource, waiting.reason, waiting.start_time.seconds) == ("members/web-1", "restart", 1_500)
    records.operation = replace(BEGUN, done=2, state=OperationState.SUCCEEDED, ended_at=2_000)
    changes.told.put_nowait(None)
    assert [one.end_time.seconds async for one in stream] == [2_000]
    assert set(changes.asked) == {math.inf}, "the hook knows best how long to wait"


async def test_without_a_hook_the_operation_is_looked_at_four_times_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        records.operation = replace(BEGUN, state=OperationState.CANCELLED)

    records = Records()
    monkeypatch.setattr(asyncio, "sleep", sleep)
    assert len([one async for one in watched(records)]) == 2
    assert slept == [0.25]


async def test_polling_uses_the_shorter_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    await polling(0.25)(math.inf)
    await polling(0.25)(0.1)
    assert slept == [0.25, 0.1]


async def test_an_operation_that_is_not_there_is_not_watched() -> None:
    records = Records(replace(BEGUN, operation_id="2"))
    with pytest.raises(errors.OperationNotFound):
        await anext(watched(records))


def test_the_message_of_an_operation_that_waits_for_nothing_says_so() -> None:
    assert list(operation_message(BEGUN).waiting) == []
