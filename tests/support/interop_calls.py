"""Cases of gRPC's interoperability tests with grpcio's client: `python -m support.interop_calls PORT`; prints one line a case."""

import asyncio
import sys
from collections.abc import Awaitable, Callable

import grpc

from support.interop_service import (
    ECHO_INITIAL,
    ECHO_TRAILING,
    EchoStatus,
    Empty,
    InputRequest,
    InputResponse,
    OutputRequest,
    OutputResponse,
    Payload,
    ResponseParameters,
    SimpleRequest,
    SimpleResponse,
)

_SERVICE = "/grpc.testing.TestService/"
_SIZES = (31415, 9, 2653, 58979)


def _unary(channel, rpc="UnaryCall", request=SimpleRequest, answer=SimpleResponse):
    return channel.unary_unary(_SERVICE + rpc, request.SerializeToString, answer.FromString)


def _duplex(channel):
    return channel.stream_stream(
        f"{_SERVICE}FullDuplexCall", OutputRequest.SerializeToString, OutputResponse.FromString
    )


def _output(*sizes, pause=0):
    return OutputRequest(response_parameters=[ResponseParameters(size=size, interval_us=pause) for size in sizes])


async def empty_unary(channel):
    await _unary(channel, "EmptyCall", Empty, Empty)(Empty(), timeout=20)


async def large_unary(channel):
    request = SimpleRequest(response_size=314159, payload=Payload(body=bytes(271828)))
    answer = await _unary(channel)(request, timeout=20)
    assert len(answer.payload.body) == 314159


async def client_streaming(channel):
    call = channel.stream_unary(
        f"{_SERVICE}StreamingInputCall", InputRequest.SerializeToString, InputResponse.FromString
    )
    requests = [InputRequest(payload=Payload(body=bytes(size))) for size in (27182, 8, 1828, 45904)]
    assert (await call(iter(requests), timeout=20)).aggregated_payload_size == 74922


async def server_streaming(channel):
    call = channel.unary_stream(
        f"{_SERVICE}StreamingOutputCall", OutputRequest.SerializeToString, OutputResponse.FromString
    )
    found = [len(answer.payload.body) async for answer in call(_output(*_SIZES), timeout=20)]
    assert found == list(_SIZES)


async def ping_pong(channel):
    call = _duplex(channel)(timeout=20)
    for size in _SIZES:
        await call.write(_output(size))
        assert len((await call.read()).payload.body) == size
    await call.done_writing()
    assert await call.read() is grpc.aio.EOF


async def empty_stream(channel):
    call = _duplex(channel)(timeout=20)
    await call.done_writing()
    assert [answer async for answer in call] == []


async def timeout_on_sleeping_server(channel):
    call = _duplex(channel)(iter([_output(31415, pause=1_000_000)]), timeout=0.1)
    assert await call.code() is grpc.StatusCode.DEADLINE_EXCEEDED


async def cancel_after_first_response(channel):
    call = _duplex(channel)(timeout=20)
    await call.write(_output(31415))
    await call.read()
    call.cancel()
    assert await call.code() is grpc.StatusCode.CANCELLED


async def custom_metadata(channel):
    metadata = ((ECHO_INITIAL, "test_initial_metadata_value"), (ECHO_TRAILING, b"\xab\xab\xab"))
    single = _unary(channel)(SimpleRequest(response_size=1), timeout=20, metadata=metadata)
    await single
    stream = _duplex(channel)(iter([_output(1)]), timeout=20, metadata=metadata)
    assert len([answer async for answer in stream]) == 1
    for call in (single, stream):
        assert metadata[0] in list(await call.initial_metadata())
        assert metadata[1] in list(await call.trailing_metadata())


async def special_status_message(channel):
    message = "\t\ntest with whitespace\r\nand Unicode BMP ☺ and non-BMP \U0001f608\t\n"
    call = _unary(channel)(SimpleRequest(response_status=EchoStatus(code=2, message=message)), timeout=20)
    assert (await call.code(), await call.details()) == (grpc.StatusCode.UNKNOWN, message)


async def unimplemented_method(channel):
    call = _unary(channel, "UnimplementedCall", Empty, Empty)(Empty(), timeout=20)
    assert await call.code() is grpc.StatusCode.UNIMPLEMENTED


CASES: tuple[Callable[[grpc.aio.Channel], Awaitable[None]], ...] = (
    empty_unary,
    large_unary,
    client_streaming,
    server_streaming,
    ping_pong,
    empty_stream,
    timeout_on_sleeping_server,
    cancel_after_first_response,
    custom_metadata,
    special_status_message,
    unimplemented_method,
)


async def run(port: int) -> bool:
    """Run all cases; whether all passed."""
    passed = True
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        for case in CASES:
            try:
                await case(channel)
            except (AssertionError, grpc.RpcError) as failed:
                passed = False
                print("failed", case.__name__, repr(failed)[:200])
            else:
                print("passed", case.__name__)
    return passed


if __name__ == "__main__":
    sys.exit(not asyncio.run(run(int(sys.argv[1]))))
