"""The rules of gRPC over HTTP/2, without a connection."""

import base64
from contextlib import suppress
from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyreeve_chassis.rpc import wire
from keyreeve_chassis.rpc.wire import MessageReader, WireError

HEADERS = ((b":method", b"POST"), (b":path", b"/a.B/C"), (b"content-type", b"application/grpc"), (b"te", b"trailers"))


def head(*more: tuple[bytes, bytes], most: int = 16384) -> wire.RequestHead:
    return wire.read_request((*HEADERS, *more), most)


def refusal(*headers: tuple[bytes, bytes]) -> WireError:
    with pytest.raises(WireError) as refused:
        wire.read_request(headers, 16384)
    return refused.value


@given(st.lists(st.binary(max_size=300), max_size=6), st.integers(1, 40))
def test_messages_are_found_wherever_the_bytes_are_cut(messages, step):
    data = b"".join(wire.frame(one) for one in messages)
    reader = MessageReader(300)
    found = [one for at in range(0, len(data), step) for one in reader.feed(data[at : at + step])]
    reader.end()
    assert found == messages
    assert reader.held == 0


@given(st.lists(st.binary(max_size=600), max_size=5))
def test_a_reader_of_any_bytes_holds_no_more_than_one_message(parts):
    reader = MessageReader(100)
    with suppress(WireError):
        for part in parts:
            for message in reader.feed(part):
                assert len(message) <= 100
            assert reader.held < 105


@pytest.mark.parametrize("step", [7, 1_000, 16_384, 60_000])
def test_a_large_message_is_put_together_from_parts_and_none_is_held_twice(step: int) -> None:
    body, reader = bytes(range(256)) * 800, wire.MessageReader(1 << 20)
    data, found = wire.frame(body) + wire.frame(b"next"), []
    for at in range(0, len(data), step):
        found += reader.feed(data[at : at + step])
        assert reader.held <= at + step
    assert found == [body, b"next"]
    assert reader.held == 0


def test_what_is_dropped_is_not_held() -> None:
    reader = wire.MessageReader(1 << 20)
    reader.feed(wire.frame(bytes(1000))[:500])
    reader.drop()
    assert reader.held == 0
    reader.end()


def test_a_message_that_is_too_large_is_refused_at_its_prefix():
    reader = MessageReader(4096)
    with pytest.raises(WireError) as refused:
        reader.feed(b"\0" + (4097).to_bytes(4, "big"))
    assert refused.value.code == wire.RESOURCE_EXHAUSTED


def test_the_size_of_a_message_is_known_from_its_prefix_on():
    reader = MessageReader(4096)
    assert reader.feed(b"\0" + (1000).to_bytes(4, "big") + b"x") == []
    assert (reader.needed, reader.held) == (1005, 6)


@pytest.mark.parametrize("flag", [1, 2, 0x80])
def test_a_compressed_message_without_an_encoding_is_an_internal_error(flag):
    with pytest.raises(WireError) as refused:
        MessageReader(100).feed(bytes([flag, 0, 0, 0, 0]))
    assert refused.value.code == wire.INTERNAL


def test_a_call_that_ends_within_a_message_is_an_internal_error():
    reader = MessageReader(100)
    reader.feed(b"\0\0\0\0\x09x")
    with pytest.raises(WireError):
        reader.end()


@given(st.integers(0, 99_999_999), st.sampled_from("HMSmun"))
def test_a_timeout_is_a_number_and_a_unit(number, unit):
    seconds = {"H": 3600, "M": 60, "S": 1, "m": 1e-3, "u": 1e-6, "n": 1e-9}[unit]
    assert head((b"grpc-timeout", f"{number}{unit}".encode())).timeout == number * seconds


@pytest.mark.parametrize("value", [b"1", b"S", b"-1S", b"1s", b"1.5S", b"123456789S", b" 1S", "٣S".encode()])
def test_other_timeouts_are_refused(value):
    assert refusal(*HEADERS, (b"grpc-timeout", value)).code == wire.INTERNAL


@given(st.binary(max_size=64), st.booleans())
def test_binary_metadata_is_read_padded_or_not(value, padded):
    encoded = base64.b64encode(value) if padded else base64.b64encode(value).rstrip(b"=")
    assert head((b"x-bin", encoded)).metadata == (("x-bin", value),)


def test_joined_values_of_binary_metadata_are_several():
    assert head((b"x-bin", b"YQ, YmM=")).metadata == (("x-bin", b"a"), ("x-bin", b"bc"))


def test_metadata_keeps_its_order_and_loses_what_belongs_to_grpc():
    found = head((b"b", b"1"), (b"grpc-tags-bin", b"AA"), (b"a", b"2"), (b"b", b"3"), (b"user-agent", b"x/1"))
    assert found.metadata == (("b", "1"), ("a", "2"), ("b", "3"), ("user-agent", "x/1"))
    assert found.path == "/a.B/C"
    assert found.timeout is None


@pytest.mark.parametrize("field", [(b"x-bin", b"!!!"), (b"x", b"a\x80"), (b"x", b"a\tb"), (b"x y", b"a")])
def test_metadata_outside_the_grammar_is_refused(field):
    assert refusal(*HEADERS, field).code == wire.INTERNAL


def test_what_is_not_a_call_gets_an_http_status():
    assert refusal((b":method", b"GET"), *HEADERS[1:]).http_status == b"405"
    assert refusal(*HEADERS[:2], (b"content-type", b"text/html")).http_status == b"415"
    assert refusal(*HEADERS[:2], (b"content-type", b"application/grpc-web")).http_status == b"415"
    assert head((b"content-type", b"application/grpc+proto")).path == "/a.B/C"


def test_a_compressed_call_is_unimplemented():
    refused = refusal(*HEADERS, (b"grpc-encoding", b"gzip"))
    assert (refused.code, refused.http_status) == (wire.UNIMPLEMENTED, None)
    assert head((b"grpc-encoding", b"identity")).path == "/a.B/C"


def test_large_metadata_is_refused_with_its_size():
    with pytest.raises(WireError) as refused:
        head((b"x", b"y" * 2000), most=2000)
    assert refused.value.code == wire.RESOURCE_EXHAUSTED


@pytest.mark.parametrize(
    "fields",
    [
        [(b"x", b"y" * 17_000)],
        [(b"x-bin", b"A" * 17_000)],
        [(b"y" * 17_000, b"x")],
        [(b"user-agent", b"y" * 17_000)],
        [(b"grpc-tags-bin", b"A" * 17_000)],
        [(b":authority", b"y" * 17_000)],
        [(b"x-%d" % number, b"y" * 64) for number in range(200)],
    ],
)
def test_the_cap_on_metadata_holds_for_every_field(fields):
    assert refusal(*HEADERS, *fields).code == wire.RESOURCE_EXHAUSTED


def test_the_cap_on_metadata_holds_for_the_method_too():
    path = [(name, b"/" + b"y" * 17_000 if name == b":path" else value) for name, value in HEADERS]
    assert refusal(*path).code == wire.RESOURCE_EXHAUSTED


@given(st.text(max_size=200))
def test_the_text_of_an_error_survives_percent_encoding(text):
    encoded = wire.encode_message(text)
    assert all(0x20 <= byte <= 0x7E for byte in encoded)
    assert unquote_to_bytes(encoded).decode() == text.encode(errors="replace").decode()


@given(st.text(min_size=1000, max_size=3000))
def test_a_long_text_is_cut_between_characters(text):
    encoded = wire.encode_message(text)
    assert len(encoded) <= 2048
    assert text.encode(errors="replace").decode().startswith(unquote_to_bytes(encoded).decode())


def test_details_beyond_what_the_peer_accepts_are_left_out():
    detail = [("grpc-status-details-bin", b"x" * 1000)]
    assert [name for name, _ in wire.trailers(3, "bad", detail, 8192)] == [
        b"grpc-status",
        b"grpc-message",
        b"grpc-status-details-bin",
    ]
    assert wire.trailers(3, "bad", detail, 1000) == [(b"grpc-status", b"3"), (b"grpc-message", b"bad")]


def test_each_of_the_joined_values_counts_as_a_field():
    assert len(head((b"x-bin", b"," * 100)).metadata) == 101
    assert refusal(*HEADERS, (b"x-bin", b"," * 600)).code == wire.RESOURCE_EXHAUSTED
