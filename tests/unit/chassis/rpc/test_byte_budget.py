"""The bytes that a process buffers: what counts, whose calls are given up, and what is credited back."""

from dataclasses import replace

import hpack
import pytest

from keyreeve_chassis.rpc import wire
from keyreeve_chassis.rpc.http2 import on_h2, on_ngh2
from keyreeve_chassis.rpc.limits import ByteBudget, Standing
from support.http2_peer import BIDI, ENGINES, LIMITS, UNARY, Http2Peer

SIZE = 600_000
HALF_SENT = b"\0" + SIZE.to_bytes(4, "big")
ENHANCE_YOUR_CALM = 11
"""For a client of gRPC: RESOURCE_EXHAUSTED."""


@pytest.fixture(autouse=True, scope="module", params=ENGINES, ids=lambda engine: engine.library)
def engine(request):
    """Every test runs on both HTTP/2 engines."""
    before, Http2Peer.engine = Http2Peer.engine, request.param
    yield request.param
    Http2Peer.engine = before


def half_sent(peer: Http2Peer, size: int) -> int:
    return peer.call(UNARY, end=False, raw=HALF_SENT + b"x" * size)


def test_a_slow_upload_survives_a_caller_whose_calls_fill_the_budget():
    budget, heavy = ByteBudget(1_000_000), Standing(LIMITS, 1000.0)
    slow = Http2Peer(budget=budget)
    upload = half_sent(slow, 100_000)
    peers = [Http2Peer(budget=budget, standing=heavy) for _ in range(10)]
    numbers = [half_sent(peer, 200_000) for peer in peers]
    for peer in (slow, *peers):
        peer.exchange()
    assert [peer.status(number) for peer, number in zip(peers, numbers, strict=True)] == [8] * 6 + [None] * 4
    assert slow.status(upload) is None
    slow.client.send_data(upload, b"x" * (SIZE - 100_000), end_stream=True)
    slow.exchange()
    assert len(slow.calls.started) == 1


def test_large_requests_in_progress_of_one_caller_leave_a_quarter_to_others():
    budget, heavy = ByteBudget(1_000_000), Standing(LIMITS, 1000.0)
    first, second = (Http2Peer(budget=budget, standing=heavy) for _ in range(2))
    assert first.status(first.call(UNARY, b"x" * 400_000)) is None
    assert second.status(second.call(UNARY, b"x" * 400_000)) == wire.RESOURCE_EXHAUSTED
    other = Http2Peer(budget=budget)
    upload = half_sent(other, 100_000)
    assert other.status(other.call(UNARY, b"x" * 300_000)) is None
    assert other.status(upload) is None


def test_a_single_request_may_take_more_than_three_quarters():
    peer = Http2Peer(budget=ByteBudget(1_000_000))
    assert peer.status(peer.call(UNARY, b"x" * 900_000)) is None


@pytest.mark.parametrize(("fields", "streams"), [(0, 60), (100, 5)])
def test_headers_without_their_request_count(fields, streams):
    peer = Http2Peer(budget=ByteBudget(100_000))
    encoder = hpack.Encoder()
    opening = [(":method", "POST"), (":scheme", "http"), (":path", UNARY), (":authority", "x")]
    opening += [
        ("content-type", "application/grpc"),
        ("te", "trailers"),
        *((f"x-{n}", "~" * 50) for n in range(fields)),
    ]
    for number in range(1, 2 * streams, 2):
        block = encoder.encode(opening)
        peer.connection.receive(len(block).to_bytes(3, "big") + b"\1\4" + number.to_bytes(4, "big") + block, peer.now)
        while peer.connection.output(peer.now):
            pass
        assert peer.budget.total <= 100_000
    assert peer.open_calls < streams
    assert peer.budget.total >= peer.open_calls * (2_000 + fields * 200)


def test_a_call_that_runs_does_not_count_its_headers():
    peer = Http2Peer()
    peer.call(UNARY, b"x")
    peer.call(BIDI, end=False)
    assert peer.budget.total == 0


def test_answers_that_are_not_read_are_given_up_as_too_much():
    peer = Http2Peer(budget=ByteBudget(300_000), window=1000)
    numbers = []
    for _ in range(2):
        numbers.append(peer.call(BIDI, b"x", end=False))
        peer.connection.send(peer.calls.started[-1][0], b"y" * 200_000)
        peer.exchange()
    peer.exchange()
    assert [peer.reset_code(number) for number in numbers] == [ENHANCE_YOUR_CALM, None]
    assert peer.calls.cancelled == [peer.calls.started[0][0]]
    assert peer.budget.total <= 200_000


def test_answers_that_the_transport_does_not_take_count_and_are_given_up():
    peer = Http2Peer()
    peer.call(BIDI, b"x", end=False)
    ((stream, _),) = peer.calls.started
    peer.connection.send(stream, b"y" * 200_000)
    peer.connection.count_unsent(peer.now)  # no output: the transport is full
    assert peer.budget.total >= 200_000
    peer.connection.tick(peer.now + LIMITS.stall_timeout - 1)
    assert peer.calls.cancelled == []
    peer.connection.tick(peer.now + LIMITS.stall_timeout + 1)
    assert peer.calls.cancelled == [stream]
    assert peer.budget.total == 0


@pytest.mark.parametrize("by_peer", [True, False])
def test_bytes_of_calls_that_were_reset_are_credited_to_the_connection(by_peer, monkeypatch):
    for module in (on_ngh2, on_h2):
        monkeypatch.setattr(module, "CONNECTION_WINDOW", 1_000_000)
    peer = Http2Peer(limits=replace(LIMITS, resets_burst=1_000))
    for _ in range(20):
        number = half_sent(peer, 400_000)
        if by_peer:
            peer.client.reset_stream(number)
            peer.exchange()
        else:
            peer.later(LIMITS.message_timeout + 1)
    assert (peer.open_calls, peer.connection.closed) == (0, False)
    peer.call(UNARY, b"y" * 500_000)
    assert peer.calls.started[0][1] == b"y" * 500_000
