"""When a call's record is written: once, before the response, or with the change."""

import asyncio

import pytest

from keyreeve.audit.record import Record, tail
from keyreeve.errors import (
    AccessDenied,
    AuditUnavailable,
    NotFound,
    PeerCertificateMissing,
    StoreUnavailable,
    TooManyInFlight,
)
from keyreeve.identity import Caller, Role, SpiffeId
from keyreeve_chassis.audit.recording import MOST_WAITING, Recorder
from keyreeve_chassis.audit.trail import MOST_PEERS, CallRecord, Trail
from keyreeve_chassis.guard.call import Call

ANN = Caller(SpiffeId.parse("spiffe://example.test/operators/admin/ann"), Role.ADMIN, 0x4D2)
METHOD = "/x.Y/Z"


class Store:
    """Commits what it is given, or fails as it is told."""

    def __init__(self) -> None:
        self.commits: list[list[Record]] = []
        self.failure: Exception | None = None
        self.gate = asyncio.Event()
        self.gate.set()

    async def write(self, records):
        await self.gate.wait()
        if self.failure is not None:
            raise self.failure
        self.commits.append([Record.decode(r) for r in records])

    @property
    def records(self) -> list[Record]:
        return [r for commit in self.commits for r in commit]


def trail_of(store: Store, **changes) -> Trail:
    return Trail(Recorder(store.write, seconds=0.05), **changes)


def begun(trail: Trail, caller: Caller | None = ANN, peer: str = "ipv4:192.0.2.1:5") -> tuple[Call, CallRecord]:
    call = Call(METHOD, caller, peer=peer, request_id="call-0001")
    call.record = CallRecord(trail, call, lambda _: ("", ()))
    return call, call.record


async def test_a_record_names_the_caller_and_on_whose_behalf_it_calls():
    store = Store()
    trail = trail_of(store)
    gateway = Caller(SpiffeId.parse("spiffe://example.test/services/gateway/one"), Role.GATEWAY, 7)
    for subject in (None, ANN):
        call = Call(METHOD, gateway, subject=subject, peer="ipv4:192.0.2.1:5")
        await trail.succeeded(CallRecord(trail, call, lambda _: ("", ())))
    assert [(r.caller, r.subject) for r in store.records] == [(str(gateway), ""), (str(gateway), str(ANN))]


async def test_records_that_gather_during_a_commit_form_the_next_one():
    store = Store()
    recorder = Recorder(store.write)
    store.gate.clear()
    body = Record("", "", "", "", "", "", 1, "", "", (), "OK", "", (), 1).encode()
    tasks = [asyncio.create_task(recorder.record(body)) for _ in range(9)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    more = [asyncio.create_task(recorder.record(body)) for _ in range(5)]
    await asyncio.sleep(0)
    store.gate.set()
    await asyncio.gather(*tasks, *more)
    assert [len(commit) for commit in store.commits] == [9, 5]


async def test_where_calls_come_close_together_a_record_waits_for_others_and_one_that_comes_alone_does_not():
    store = Store()
    recorder = Recorder(store.write, max_batch_delay=0.01)
    body = Record("", "", "", "", "", "", 1, "", "", (), "OK", "", (), 1).encode()
    await asyncio.gather(recorder.record(body), recorder.record(body))
    first = asyncio.create_task(recorder.record(body))
    for _ in range(9):
        await asyncio.sleep(0)
    assert len(store.commits) == 1, "it waits"
    await asyncio.gather(first, recorder.record(body))
    assert [len(commit) for commit in store.commits] == [2, 2]

    alone = Recorder(store.write, max_batch_delay=3600)
    for _ in range(3):
        await asyncio.wait_for(alone.record(body), 60)


async def test_a_store_that_hangs_or_fails_makes_the_audit_unavailable_and_the_next_record_goes_through():
    store = Store()
    recorder = Recorder(store.write, seconds=0.05)
    body = Record("", "", "", "", "", "", 1, "", "", (), "OK", "", (), 1).encode()
    store.gate.clear()
    with pytest.raises(AuditUnavailable, match="within"):
        await recorder.record(body)
    store.gate.set()
    store.failure = StoreUnavailable("the disk is full")
    with pytest.raises(AuditUnavailable, match="the disk is full"):
        await recorder.record(body)
    store.failure = ValueError("a mistake")
    with pytest.raises(AuditUnavailable):
        await recorder.record(body)
    store.failure = None
    await recorder.record(body)
    assert len(store.records) == 1


async def test_the_queue_is_bounded():
    store = Store()
    store.gate.clear()
    recorder = Recorder(store.write, seconds=30)
    tasks = [asyncio.create_task(recorder.record(b"")) for _ in range(MOST_WAITING)]
    await asyncio.sleep(0)
    with pytest.raises(AuditUnavailable, match="wait"):
        await recorder.record(b"")
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    store.gate.set()
    await recorder.close()


async def test_a_call_is_recorded_once_whatever_is_said_of_it_later():
    store = Store()
    trail = trail_of(store)
    call, record = begun(trail)
    await trail.succeeded(record)
    await trail.succeeded(record)
    await trail.failed(record, call, NotFound("too late"))
    trail.cancelled(record, call, "CANCELLED")
    await trail.close()
    [written] = store.records
    assert (written.method, written.caller, written.credential, written.code) == (METHOD, str(ANN), "4d2", "OK")


@pytest.mark.parametrize("end", ["result", "failure", "cancelled"])
async def test_an_entrusted_record_is_written_here_only_if_its_commit_failed(end):
    store = Store()
    trail = trail_of(store)
    call, record = begun(trail)
    done = asyncio.get_running_loop().create_future()
    record.entrusted = done
    ending = asyncio.create_task(trail.failed(record, call, StoreUnavailable("no answer")))
    await asyncio.sleep(0)
    if end == "result":
        done.set_result(None)
    elif end == "failure":
        done.set_exception(StoreUnavailable("nothing was committed"))
    else:
        done.cancel()
    await ending
    assert [r.reason for r in store.records] == ([] if end == "result" else ["STORE_UNAVAILABLE"])


async def test_a_released_record_is_written_here():
    store = Store()
    trail = trail_of(store)
    _, record = begun(trail)
    record.entrusted = asyncio.get_running_loop().create_future()
    record.entrusted = None
    await trail.succeeded(record)
    assert len(store.records) == 1


async def test_a_cancelled_call_is_recorded_although_its_caller_is_gone():
    store = Store()
    trail = trail_of(store)
    call, record = begun(trail)
    trail.cancelled(record, call, "CANCELLED")
    await trail.close()
    assert [r.code for r in store.records] == ["CANCELLED"]


async def test_refusals_without_an_identity_are_one_record_for_each_peer_reason_and_second():
    store, now = Store(), [5_000]
    trail = trail_of(store, now=lambda: now[0])
    for second, peer, count in ((5, "ipv4:192.0.2.1", 30), (5, "ipv4:192.0.2.2", 2), (6, "ipv4:192.0.2.1", 1)):
        now[0] = second * 1000
        for port in range(count):
            call, record = begun(trail, None, f"{peer}:{port}")
            await trail.failed(record, call, PeerCertificateMissing("nobody"))
    await trail.close()
    found = sorted((r.time, r.peer, r.calls) for r in store.records)
    assert found == [(5_000, "ipv4:192.0.2.1", 30), (5_000, "ipv4:192.0.2.2", 2), (6_000, "ipv4:192.0.2.1", 1)]


async def test_refusals_for_load_are_one_record_for_each_caller_method_and_second():
    store = Store()
    trail = trail_of(store, now=lambda: 5_000)
    for number in range(40):
        call, record = begun(trail, peer=f"ipv4:192.0.2.1:{number}")
        await trail.failed(record, call, TooManyInFlight("512 calls are in progress here"))
    call, record = begun(trail)
    await trail.failed(record, call, AccessDenied("not you"))
    await trail.close()
    found = sorted((r.caller, r.method, r.reason, r.peer, r.calls) for r in store.records)
    assert found == [
        (str(ANN), METHOD, "ACCESS_DENIED", "ipv4:192.0.2.1:5", 1),
        (str(ANN), METHOD, "TOO_MANY_IN_FLIGHT", "ipv4:192.0.2.1", 40),
    ]


async def test_a_flood_from_many_addresses_fills_neither_memory_nor_disk():
    store = Store()
    trail = Trail(Recorder(store.write), now=lambda: 5_000)
    for number in range(MOST_PEERS + 500):
        call, record = begun(trail, None, f"ipv4:10.{number >> 8}.{number & 255}.1:9")
        await trail.failed(record, call, PeerCertificateMissing("nobody"))
    await trail.close()
    assert len(store.records) == MOST_PEERS + 1
    assert {r.calls for r in store.records if r.peer == "*"} == {500}


async def test_a_head_and_a_tail_are_a_record():
    trail = trail_of(Store())
    call, record = begun(trail)
    record.tell("identity", "spiffe://example.test/members/web")
    record.prepare()
    made = Record.decode(record.head + tail("OK", "", [("certificate", "ab")]))
    assert made.targets == (("identity", "spiffe://example.test/members/web"),)
    assert made.results == (("certificate", "ab"),)
    assert call.record is record
