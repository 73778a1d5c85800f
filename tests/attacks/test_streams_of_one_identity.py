"""Streams that stay open: one identity has its share, the feeds of services come first, and health is bounded."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
from grpc_health.v1 import health_pb2

from keyreeve_chassis.rpc.server import HEALTH_CALLS
from support.echo_service import echo_service
from support.running import Harness, refused, serving

WATCH = "/grpc.health.v1.Health/Watch"
STREAMS = 16


def watching(channel: grpc.aio.Channel) -> Any:
    return channel.unary_stream(WATCH, None, health_pb2.HealthCheckResponse.FromString)(b"")


@asynccontextmanager
async def streams(channel: grpc.aio.Channel, count: int) -> AsyncIterator[list[Any]]:
    """Streams of health; the value is those that were answered."""
    opened = [watching(channel) for _ in range(count)]
    answers = await asyncio.gather(*(one.read() for one in opened), return_exceptions=True)
    try:
        yield [one for one, answer in zip(opened, answers, strict=True) if not isinstance(answer, BaseException)]
    finally:
        for one in opened:
            one.cancel()


def member(server: Harness, name: str) -> grpc.aio.Channel:
    return server.channel(server.hierarchies.control.person(f"members/{name}.example.test"))


async def test_one_identity_has_its_share_of_the_streams_and_services_are_kept_some() -> None:
    async with (
        serving([echo_service()], streams_in_flight=STREAMS) as server,
        member(server, "web") as first,
        member(server, "db") as second,
        server.channel(server.hierarchies.control.person("services/membership/one")) as service,
        streams(first, STREAMS) as taken,
        streams(second, STREAMS) as others,
    ):
        assert len(taken) == STREAMS * 3 // 4
        assert len(others) == STREAMS // 8
        told = await refused(watching(second).read())
        assert told.code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert (await watching(service).read()).status == health_pb2.HealthCheckResponse.SERVING


async def test_health_for_anyone_is_bounded_and_takes_nothing_from_callers() -> None:
    async with serving([echo_service()], health_port=0) as server:
        address = f"127.0.0.1:{server.running.health_port}"
        options = [("grpc.use_local_subchannel_pool", 1)]
        async with (
            grpc.aio.insecure_channel(address, options=options) as one,
            grpc.aio.insecure_channel(address, options=options) as two,
            grpc.aio.insecure_channel(address, options=options) as three,
            streams(one, 100) as first,
            streams(two, 100) as second,
            streams(three, 100) as third,
        ):
            assert len(first) + len(second) + len(third) == HEALTH_CALLS
            async with member(server, "web") as channel:
                assert (await watching(channel).read()).status == health_pb2.HealthCheckResponse.SERVING
