"""Timelines, counters and histograms of a benchmark."""

import asyncio
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from keyreeve.errors import CsrMalformed, KeyreeveError, StoreUnavailable, TooManyInFlight
from keyreeve_bench.acknowledgements import Acknowledged, AcknowledgementFile, read
from keyreeve_bench.calling import Answer
from keyreeve_bench.client import LoadClient
from keyreeve_bench.recording import Counts, Tally, percentiles_ms
from keyreeve_bench.timeline import Timeline

SERIAL = b"01" * 16


def timeline(*phases: dict[str, Any], start: float = 100.0) -> Timeline:
    return Timeline(phases, start)


def test_phases_follow_each_other_without_a_gap() -> None:
    times = timeline({"name": "a", "seconds": 2.0, "in_flight": 1}, {"name": "b", "seconds": 3.0, "in_flight": 1})
    found = [phase.name if (phase := times.at(now)) else None for now in (100.0, 101.9, 102.0, 104.9, 105.0)]
    assert found == ["a", "a", "b", "b", None]


def test_an_open_loop_spreads_its_calls_evenly_and_ends_with_the_phase() -> None:
    (phase,) = timeline({"name": "a", "seconds": 1.0, "in_flight": 1, "rate": 4.0, "offset": 0.5}).phases
    assert [phase.next_due() for _ in range(4)] == [100.125, 100.375, 100.625, 100.875]
    assert phase.next_due() >= phase.end
    assert phase.unsent == 0


def test_calls_that_were_due_and_never_begun_are_counted() -> None:
    (phase,) = timeline({"name": "a", "seconds": 10.0, "in_flight": 1, "rate": 5.0}).phases
    for _ in range(20):
        phase.next_due()
    assert phase.unsent == 30


def test_percentiles_are_those_of_all_processes_together() -> None:
    documents = []
    for part in (range(1, 501), range(501, 1001)):
        counts = Counts(2.0)
        for milliseconds in part:
            counts.answered(2, milliseconds / 1000, 1.5)
        documents.append(counts.to_document(0))
    tally = Tally.of(2.0, documents)
    latency = tally.latency_ms()
    assert (tally.calls, tally.certificates, tally.rate) == (1000, 2000, 1000.0)
    assert tally.per_second == [0, 2000]
    for name, wanted in {"p50": 500, "p90": 900, "p99": 990, "p999": 999, "max": 1000, "mean": 500.5}.items():
        assert latency[name] == pytest.approx(wanted, rel=2e-3)


def test_refusals_have_a_latency_of_their_own() -> None:
    counts = Counts(1.0)
    counts.failed("RESOURCE_EXHAUSTED", "TOO_MANY_IN_FLIGHT", 100, 0.007)
    counts.failed("UNAVAILABLE", "STORE_UNAVAILABLE", 1, 3.0)
    tally = Tally.of(1.0, [counts.to_document(5)])
    assert percentiles_ms(tally.refusals)["max"] == pytest.approx(7, rel=2e-3)
    assert tally.errors == {("RESOURCE_EXHAUSTED", "TOO_MANY_IN_FLIGHT"): 100, ("UNAVAILABLE", "STORE_UNAVAILABLE"): 1}
    assert (tally.certificates, tally.calls, tally.unsent) == (0, 0, 5)


def test_nothing_recorded_is_reported_as_zeros() -> None:
    assert Tally().latency_ms() == dict.fromkeys(("p50", "p90", "p99", "p999", "max", "mean"), 0.0)


class FakeCalls:
    """Answers as told: a certificate, or the error that `act` raises for the number of the call."""

    def __init__(self, act: Callable[[int], None] = lambda _: None) -> None:
        self.act = act
        self.taken = 0
        self.requests: list[bytes] = []
        self.request_ids: list[str] = []
        self.first_waits: asyncio.Event | None = None

    async def connect(self) -> None: ...

    async def close(self) -> None: ...

    def take(self) -> bytes:
        self.taken += 1
        return self.taken.to_bytes(4)

    async def call(self, index: int, request: bytes, request_id: str) -> Answer:
        self.requests.append(request)
        self.request_ids.append(request_id)
        number = len(self.request_ids)
        if self.first_waits is not None and number == 1:
            await self.first_waits.wait()
        await asyncio.sleep(0)
        self.act(number)
        return Answer([SERIAL], [], b"x", [])


class Silent:
    def tell(self, document: dict[str, Any]) -> None: ...


async def run(
    calls: FakeCalls, *, repeat: bool = False, seconds: float = 0.05, **phase: Any
) -> tuple[LoadClient, dict[str, Any]]:
    phases = [{"name": "measured", "seconds": seconds, "in_flight": 1, **phase}]
    orders = {"batch": 1, "marker": "0" * 12, "process": 0, "repeat": repeat}
    client = LoadClient(orders, calls, Timeline(phases, time.monotonic()), None)
    return client, await client.run(Silent())  # type: ignore[arg-type]


async def test_every_acknowledged_certificate_is_counted_also_one_that_comes_after_the_end() -> None:
    calls = FakeCalls()
    client, result = await run(calls)
    assert result["acknowledged"] == len(calls.request_ids) == len(client.serials) // 16
    assert 0 < result["phases"]["measured"]["certificates"] <= result["acknowledged"]
    assert len(set(calls.request_ids)) == len(calls.request_ids)


async def test_latency_of_an_open_loop_counts_from_when_the_call_was_due() -> None:
    calls = FakeCalls()
    calls.first_waits = asyncio.Event()
    asyncio.get_running_loop().call_later(0.1, calls.first_waits.set)
    _, result = await run(calls, seconds=0.2, rate=100.0)
    tally = Tally.of(0.2, [result["phases"]["measured"]])
    # Nine calls were due while the first waited, and took a tenth of a second, 0.09 s, 0.08 s ... although they were
    # answered at once when they could begin: half a second in all, not the tenth that the one slow call took.
    assert tally.microseconds > 250_000


async def test_a_lost_answer_is_repeated_with_the_same_request_and_id() -> None:
    def act(number: int) -> None:
        if number == 1:
            raise StoreUnavailable("away", retry_after=timedelta(0))

    calls = FakeCalls(act)
    _, result = await run(calls, repeat=True)
    assert calls.request_ids[0] == calls.request_ids[1] != calls.request_ids[2]
    assert calls.requests[0] == calls.requests[1] != calls.requests[2]
    assert (result["repeated"], result["unknown"]) == (1, 0)


@pytest.mark.parametrize(
    ("error", "unknown"),
    [
        (StoreUnavailable("away", retry_after=timedelta(0)), 1),
        (TooManyInFlight("full", retry_after=timedelta(0)), 0),
        (CsrMalformed("no"), 0),
    ],
)
async def test_only_calls_that_may_have_been_carried_out_are_of_unknown_outcome(
    error: KeyreeveError, unknown: int
) -> None:
    def act(number: int) -> None:
        if number == 1:
            raise error

    _, result = await run(FakeCalls(act), seconds=0.2)
    assert result["unknown"] == unknown
    assert result["phases"]["measured"]["errors"] == [[error.code, error.reason, 1]]


async def test_acknowledgements_are_in_the_file_when_their_caller_goes_on(tmp_path: Path) -> None:
    file = AcknowledgementFile(tmp_path / "acknowledged")
    kept = [Acknowledged(f"id-{n}", f"{n:032x}", bytes([n])) for n in range(20)]
    await asyncio.gather(*(file.keep([one]) for one in kept[:19]))
    await file.keep(kept[19:])
    file.close()
    assert sorted(read(tmp_path / "acknowledged"), key=lambda one: one.serial) == kept


def test_a_line_that_was_cut_by_a_crash_is_no_acknowledgement(tmp_path: Path) -> None:
    (tmp_path / "acknowledged").write_text("id-1 01 AQ==\nid-2 02 AQ")
    assert [one.request_id for one in read(tmp_path / "acknowledged")] == ["id-1"]
