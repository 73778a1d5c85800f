"""One connection with its calls, in memory: what is answered, and what a peer that means no good can make it hold."""

import asyncio
from dataclasses import replace

import hpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keyreeve_chassis.rpc import wire
from keyreeve_chassis.rpc.calls import ConnectionCalls, Starts
from keyreeve_chassis.rpc.limits import ByteBudget, Standing
from support.http2_peer import BIDI, CLOSED, ENGINES, LIMITS, UNARY, Http2Peer, ScriptedCalls

RESET, PING, SETTINGS = 3, 6, 4


@pytest.fixture(autouse=True, scope="module", params=ENGINES, ids=lambda engine: engine.library)
def engine(request):
    """Every test runs on both HTTP/2 engines."""
    before, Http2Peer.engine = Http2Peer.engine, request.param
    yield request.param
    Http2Peer.engine = before


def frame(kind: int, stream: int, payload: bytes, flags: int = 0) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def test_a_unary_call_is_started_with_its_request_and_answered():
    peer = Http2Peer()
    number = peer.call(UNARY, b"hello")
    ((stream, request),) = peer.calls.started
    assert request == b"hello"
    peer.connection.respond(stream, b"answer")
    peer.connection.done(stream)
    peer.exchange()
    assert (peer.received(number), peer.status(number)) == (wire.frame(b"answer"), wire.OK)
    assert (peer.open_calls, peer.budget.total) == (0, 0)


def test_a_refused_caller_is_answered_at_the_headers_and_the_stream_ended_without_an_error():
    peer = Http2Peer()
    number = peer.call(CLOSED, end=False, raw=b"\0\0\1")
    (stream,) = peer.calls.refused
    peer.connection.finish(stream, 7, "no", ())
    peer.connection.done(stream)
    peer.exchange()
    assert (peer.status(number), peer.reset_code(number)) == (7, 0)
    assert (peer.calls.started, peer.open_calls, peer.budget.total) == ([], 0, 0)


def test_no_more_than_the_first_window_is_taken_from_a_caller_who_is_not_admitted():
    peer = Http2Peer()
    peer.call(CLOSED, end=False, raw=b"\0\x00\x1f\x00\x00" + b"x" * 1_000_000)
    assert peer.budget.total <= 65535


def test_the_window_opens_for_the_whole_request_of_an_admitted_caller():
    peer = Http2Peer()
    peer.call(UNARY, b"x" * 2_000_000)
    assert len(peer.calls.started[0][1]) == 2_000_000


def test_requests_of_a_stream_of_any_size_arrive_as_they_are_taken():
    peer = Http2Peer()
    sizes = [10, 70_000, 40_000, 60_000, 300_000, 0, 65_000, 65_535]
    peer.call(BIDI, *[b"x" * size for size in sizes])
    ((stream, _),) = peer.calls.started
    taken = []
    for _ in sizes:
        message = peer.connection.take_request(stream)
        assert message is not None
        taken.append(len(message))
        peer.exchange()
    assert taken == sizes
    assert stream.ended


def test_credit_is_kept_when_a_window_is_raised_after_a_part_of_it_was_used():
    peer = Http2Peer()
    sizes = [120, 65_536, 82, 65_536, 11, 65_536, 65_531, 3, 200_000, 65_536]
    number = peer.call(BIDI, end=False)
    ((stream, _),) = peer.calls.started
    for size in sizes:
        peer.client.send_data(number, wire.frame(b"x" * size))
        peer.exchange()
        message = peer.connection.take_request(stream)
        assert message is not None
        assert len(message) == size
        peer.exchange()


def test_a_stream_that_nobody_reads_is_not_taken_beyond_its_window():
    peer = Http2Peer()
    peer.call(BIDI, *[b"x" * 1000] * 1000)
    assert peer.budget.total <= 65535


@pytest.mark.parametrize(
    ("messages", "raw", "code"),
    [
        ((), b"", wire.INTERNAL),
        ((b"a", b"b"), b"", wire.INTERNAL),
        ((), b"\0\0\0\0\x09x", wire.INTERNAL),
        ((), b"\1\0\0\0\0", wire.INTERNAL),
        ((), b"\0\xff\xff\xff\xff", wire.RESOURCE_EXHAUSTED),
    ],
)
def test_a_unary_call_has_exactly_one_whole_plain_message(messages, raw, code):
    peer = Http2Peer()
    number = peer.call(UNARY, *messages, raw=raw)
    assert (peer.status(number), peer.calls.started, peer.open_calls) == (code, [], 0)


def test_half_sent_messages_do_not_stop_the_other_calls_of_their_connection():
    peer = Http2Peer()
    for _ in range(50):
        peer.call(UNARY, end=False, raw=b"\0\x00\x1f\x00\x00" + b"x" * 60_000)
    peer.call(UNARY, b"y" * 100_000)
    assert peer.calls.started[0][1] == b"y" * 100_000


def test_beyond_the_budget_the_oldest_unfinished_calls_of_all_connections_are_given_up():
    budget = ByteBudget(1_100_000)
    peers = [Http2Peer(budget=budget) for _ in range(5)]
    numbers = [peer.call(UNARY, end=False, raw=b"\0\x00\x1f\x00\x00" + b"x" * 500_000) for peer in peers]
    assert budget.total <= 1_100_000
    for peer in peers:
        peer.exchange()
    assert [peer.status(number) for peer, number in zip(peers, numbers, strict=True)] == [8, 8, 8, None, None]


def test_large_requests_in_progress_count_and_a_further_one_is_refused():
    peer = Http2Peer(budget=ByteBudget(1_000_000))
    peer.call(UNARY, b"x" * 700_000)
    number = peer.call(UNARY, b"x" * 700_000)
    ((stream, _),) = peer.calls.started
    assert peer.status(number) == wire.RESOURCE_EXHAUSTED
    peer.connection.respond(stream, b"")
    peer.connection.done(stream)
    assert peer.budget.total == 0


def test_a_request_that_does_not_arrive_in_time_is_refused():
    peer = Http2Peer()
    number = peer.call(UNARY, end=False, raw=b"\0\0\0\0\x09x")
    peer.later(LIMITS.message_timeout - 1)
    assert peer.status(number) is None
    peer.later(2)
    assert (peer.status(number), peer.open_calls) == (wire.DEADLINE_EXCEEDED, 0)


def test_a_stream_may_pause_between_requests_but_not_within_one():
    peer = Http2Peer()
    number = peer.call(BIDI, b"first", end=False)
    peer.later(LIMITS.message_timeout * 3)
    peer.client.send_data(number, b"\0\0\0\0\x09x")
    peer.exchange()
    peer.later(LIMITS.message_timeout - 1)
    assert peer.status(number) is None
    peer.later(2)
    assert peer.status(number) == wire.DEADLINE_EXCEEDED
    assert len(peer.calls.cancelled) == 1


def test_a_call_that_is_reset_is_cancelled_and_counts_until_its_task_has_ended():
    peer = Http2Peer()
    number = peer.call(UNARY, b"x")
    ((stream, _),) = peer.calls.started
    peer.client.reset_stream(number)
    peer.exchange()
    assert peer.calls.cancelled == [stream]
    assert peer.open_calls == 1
    peer.connection.done(stream)
    assert peer.open_calls == 0


def test_streams_that_were_reset_do_not_make_room_while_their_handlers_run():
    peer = Http2Peer(limits=replace(LIMITS, streams=5))
    for _ in range(12):
        peer.client.reset_stream(peer.call(UNARY, b"x"))
    peer.exchange()
    assert (len(peer.calls.started), peer.open_calls) == (10, 10)


@pytest.mark.parametrize("body", [b"", b"x"])
def test_rapid_resets_end_the_connection(body):
    peer = Http2Peer()
    for _ in range(LIMITS.resets_burst + 2):
        if peer.connection.closed:
            break
        peer.client.reset_stream(peer.call(UNARY, *([body] if body else []), end=bool(body)))
        peer.exchange()
        for stream, _ in peer.calls.started:
            peer.connection.done(stream)
    assert peer.connection.closed
    assert peer.goodbye() == b"too_many_resets"


def refused_call(peer: Http2Peer) -> None:
    peer.call(UNARY, b"x")
    peer.exchange()
    if not peer.connection.closed:
        stream, _ = peer.calls.started[-1]
        peer.connection.finish(stream, wire.UNIMPLEMENTED, "no", ())
        peer.connection.done(stream)
        peer.exchange()


def test_a_caller_that_is_mostly_refused_is_cut_off():
    peer = Http2Peer()
    while not peer.connection.closed:
        refused_call(peer)
    assert LIMITS.refusals_burst < len(peer.calls.started) < LIMITS.refusals_burst + 5
    assert peer.goodbye() == b"too_many_refused_calls"


def test_a_caller_that_is_refused_as_often_as_answered_goes_on():
    peer = Http2Peer()
    for _ in range(LIMITS.refusals_burst * 4):
        refused_call(peer)
        peer.call(UNARY, b"x")
        peer.exchange()
        stream, _ = peer.calls.started[-1]
        peer.connection.respond(stream, b"y")
        peer.connection.done(stream)
        peer.exchange()
    assert not peer.connection.closed


def test_the_resets_of_a_caller_count_on_all_its_connections():
    standing, cut = Standing(LIMITS, 1000.0), 0
    for _ in range(20):
        peer = Http2Peer(standing=standing)
        for _ in range(LIMITS.resets_burst - 5):
            if peer.connection.closed:
                break
            peer.client.reset_stream(peer.call(UNARY, b"x"))
            peer.exchange()
            for stream, _ in peer.calls.started:
                peer.connection.done(stream)
        cut += peer.connection.closed
    assert cut >= 10
    assert not standing.clean(1000.0)
    assert standing.clean(1060.0)


async def test_a_call_that_is_cancelled_before_its_task_has_begun_is_over():
    calls = ConnectionCalls(ScriptedCalls(), "peer", {}, flush=lambda: None, running=set(), starts=Starts())
    peer = Http2Peer(calls=calls)
    calls.connection = peer.connection
    peer.client.reset_stream(peer.call(UNARY, b"x" * 100_000))
    peer.exchange()
    assert peer.open_calls == 1
    for _ in range(3):
        await asyncio.sleep(0)
    assert (peer.open_calls, peer.budget.total) == (0, 0)


def test_resets_now_and_then_do_not():
    peer = Http2Peer()
    for _ in range(LIMITS.resets_burst * 4):
        peer.client.reset_stream(peer.call(UNARY, b"x"))
        peer.exchange()
        peer.connection.done(peer.calls.started[-1][0])
        peer.later(0.2)
    assert not peer.connection.closed


def test_a_flood_of_pings_ends_the_connection_and_tells_the_client_to_back_off():
    peer = Http2Peer()
    peer.send(frame(PING, 0, b"12345678") * 10)
    assert peer.connection.closed
    assert peer.goodbye() == b"too_many_pings"


def test_pings_that_follow_answers_are_no_flood():
    peer = Http2Peer()
    peer.call(BIDI, b"x", end=False)
    ((stream, _),) = peer.calls.started
    for _ in range(50):
        peer.connection.send(stream, b"x")
        peer.client.ping(b"12345678")
        peer.exchange()
        peer.client.acknowledge_received_data(6, stream.id)
    assert not peer.connection.closed


def test_pings_while_a_large_answer_is_taken_are_no_flood():
    peer = Http2Peer()
    number = peer.call(UNARY, b"x")
    ((stream, _),) = peer.calls.started
    peer.connection.respond(stream, b"y" * 2_000_000)
    peer.exchange()
    taken = 0
    while taken < 1_900_000 and not peer.connection.closed:
        peer.client.ping(b"12345678")
        arrived = len(peer.received(number))
        if arrived > taken:
            peer.client.acknowledge_received_data(arrived - taken, number)
        taken = arrived
        peer.exchange()
    assert not peer.connection.closed


def test_a_flood_of_settings_ends_the_connection():
    peer = Http2Peer()
    peer.send(frame(SETTINGS, 0, b"\0\4\0\1\0\0") * 100)
    assert peer.connection.closed
    assert b"too_many_settings" in peer.bytes


def test_a_flood_of_empty_frames_ends_the_connection():
    peer = Http2Peer()
    number = peer.call(UNARY, end=False)
    peer.send(frame(0, number, b"") * 1000)
    assert (peer.connection.closed, peer.goodbye()) == (True, b"empty_frames")


def test_an_answer_that_is_not_read_makes_its_handler_wait_and_is_given_up():
    peer = Http2Peer(window=1000)
    peer.call(BIDI, b"x", end=False)
    ((stream, _),) = peer.calls.started
    peer.connection.send(stream, b"y" * 200_000)
    peer.exchange()
    assert peer.connection.must_wait(stream)
    assert peer.budget.total > 190_000
    peer.later(LIMITS.stall_timeout + 1)
    assert (peer.calls.cancelled, peer.reset_code(stream.id)) == ([stream], 8)
    peer.connection.done(stream)
    assert (peer.budget.total, peer.open_calls) == (0, 0)


def test_a_silent_connection_is_asked_for_a_sign_of_life_and_closed():
    peer = Http2Peer()
    peer.call(BIDI, b"x", end=False)
    peer.connection.tick(peer.now + LIMITS.keepalive_interval + 1)
    assert not peer.connection.closed
    peer.connection.tick(peer.now + LIMITS.keepalive_interval + LIMITS.keepalive_timeout + 2)
    assert peer.connection.closed
    assert len(peer.calls.cancelled) == 1


def test_a_connection_without_calls_is_asked_to_end_and_one_that_says_nothing_is_closed():
    peer = Http2Peer()
    peer.later(LIMITS.idle + 1)
    peer.later(2)
    assert peer.connection.closed
    assert peer.goodbye() == b""


def test_a_connection_is_asked_to_end_at_its_age_and_its_calls_get_the_grace():
    peer = Http2Peer(limits=replace(LIMITS, keepalive_interval=10_000))
    peer.call(UNARY, b"x", end=True)
    peer.call(UNARY, b"x", end=True)
    (first, _), (second, _) = peer.calls.started
    peer.later(LIMITS.age - 1)
    assert peer.goodbye() is None
    peer.later(2)
    assert peer.goodbye() == b""
    peer.connection.respond(first, b"late")
    peer.connection.done(first)
    peer.later(LIMITS.grace - 1)
    assert (peer.status(first.id), peer.connection.closed) == (wire.OK, False)
    peer.later(2)
    assert peer.connection.closed
    assert peer.calls.cancelled == [second]


def test_draining_announces_its_end_finishes_the_calls_that_crossed_it_and_closes():
    peer = Http2Peer()
    peer.call(UNARY, b"x")
    peer.connection.drain(peer.now, 60)
    peer.exchange()
    assert not peer.connection.closed
    ((stream, _),) = peer.calls.started
    peer.connection.respond(stream, b"late")
    peer.connection.done(stream)
    peer.exchange()
    assert (peer.status(stream.id), peer.connection.closed) == (wire.OK, True)


def test_a_drain_ends_with_its_grace():
    peer = Http2Peer()
    peer.call(UNARY, b"x")
    peer.connection.drain(peer.now, 5)
    peer.later(6)
    assert peer.connection.closed
    assert len(peer.calls.cancelled) == 1


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 10), st.integers(0, 9), st.binary(max_size=40), st.integers(0, 255)), max_size=20)
)
def test_frames_of_any_kind_neither_break_it_nor_make_it_hold_much(frames):
    peer = Http2Peer()
    peer.call(UNARY, end=False)
    peer.call(BIDI, b"x", end=False)
    for kind, stream, payload, flags in frames:
        peer.connection.receive(frame(kind, stream, payload, flags), peer.now)
        while peer.connection.output(peer.now):
            pass
        assert peer.budget.total <= 2 * 65535
    peer.connection.lose()
    for stream in {one.id: one for one, _ in peer.calls.started}.values():
        peer.connection.done(stream)
    assert (peer.budget.total, peer.open_calls) == (0, 0)


@pytest.mark.parametrize("code", [0, 1])
def test_time_goes_on_for_a_connection_whose_peer_has_said_goodbye_and_reads_nothing(code):
    peer = Http2Peer()
    peer.call(UNARY, end=False)
    peer.connection.receive(frame(7, 0, bytes(4) + code.to_bytes(4, "big")), peer.now)
    peer.connection.tick(peer.now + 1)
    peer.later(LIMITS.message_timeout + 1)
    assert peer.open_calls == 0


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_request_that_came_with_a_violation_ends_the_connection_without_a_failure_here(method):
    peer = Http2Peer()
    fields = [(":method", method), (":scheme", "http"), (":path", UNARY), (":authority", "x")]
    opened = frame(1, 1, hpack.Encoder().encode(fields), flags=4)
    peer.connection.receive(opened + frame(0, 0, b"data of no stream"), peer.now)
    peer.exchange()
    assert peer.connection.closed
    assert (peer.open_calls, peer.budget.total) == (0, 0)
