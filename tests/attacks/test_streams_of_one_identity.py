"""Streams that stay open: one identity has its share, the feeds of services come first, and health is bounded."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2

from keyreeve.ca.v1 import authority_service_pb2 as authority_pb
from keyreeve_ca.authorities import servicer as authority_servicer
from keyreeve_ca.authorities.servicer import AuthorityServicer
from keyreeve_chassis.guard.router import ServedService
from keyreeve_chassis.rpc.server import (
    HEALTH_CALLS,
    HEALTH_CONNECTIONS_PER_ADDRESS,
    HEALTH_STREAMS_PER_CONNECTION,
)
from support.echo_service import ECHO, echo_service
from support.http2_attacker import DATA, END_STREAM, RawConnection, Seen, frame, half_sent, message, open_streams
from support.running import Harness, client_tls, refused, serving
from support.waiting import wait_until

CHECK = "/grpc.health.v1.Health/Check"
ATTACKER = "127.0.0.3"
TIMEOUT = ("grpc-timeout", "20S")
Fill = Callable[[RawConnection], Awaitable[None]]
WATCH_BUNDLE = "/keyreeve.ca.v1.AuthorityService/WatchBundle"
WATCH = "/grpc.health.v1.Health/Watch"
STREAMS = 16


def watching(channel: grpc.aio.Channel) -> Any:
    return channel.unary_stream(WATCH, None, health_pb2.HealthCheckResponse.FromString)(b"")


def following_the_bundle(channel: grpc.aio.Channel) -> Any:
    request = authority_pb.WatchBundleRequest(name="bundles/control")
    return channel.unary_stream(WATCH_BUNDLE, authority_pb.WatchBundleRequest.SerializeToString)(request)


def bundle_service() -> ServedService:
    """AuthorityService with a bundle that never changes; nothing else of it can be called."""

    async def never(_: int) -> None:
        await asyncio.Event().wait()

    snapshot: Any = SimpleNamespace(config_version=1, trust_domain="example.test", roots=lambda _: ())
    unused: Any = None
    servicer = AuthorityServicer(unused, unused, unused, lambda: snapshot, never, lambda: b"", unused)
    descriptor = authority_pb.DESCRIPTOR.services_by_name["AuthorityService"]
    return ServedService(descriptor, servicer, authority_servicer.ACCESS)


@asynccontextmanager
async def streams(
    channel: grpc.aio.Channel, count: int, watch: Callable[[grpc.aio.Channel], Any] = watching
) -> AsyncIterator[list[Any]]:
    """Streams, of health by default; the value is those that were answered."""
    opened = [watch(channel) for _ in range(count)]
    answers = await asyncio.gather(*(one.read() for one in opened), return_exceptions=True)
    try:
        yield [one for one, answer in zip(opened, answers, strict=True) if not isinstance(answer, BaseException)]
    finally:
        for one in opened:
            one.cancel()


def member(server: Harness, name: str) -> grpc.aio.Channel:
    return server.channel(server.hierarchies.control.person(f"members/{name}.example.test"))


@pytest.mark.parametrize("watch", [watching, following_the_bundle])
async def test_one_identity_has_its_share_of_the_streams_and_services_are_kept_some(
    watch: Callable[[grpc.aio.Channel], Any],
) -> None:
    async with (
        serving([bundle_service()], streams_in_flight=STREAMS) as server,
        member(server, "web") as first,
        member(server, "db") as second,
        server.channel(server.hierarchies.control.person("services/membership/one")) as service,
        streams(first, STREAMS, watch) as taken,
        streams(second, STREAMS, watch) as others,
    ):
        assert len(taken) == STREAMS * 3 // 4
        assert len(others) == STREAMS // 8
        told = await refused(watch(second).read())
        assert told.code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert await watch(service).read()


@asynccontextmanager
async def health_attackers(server: Harness, count: int, fill: Fill) -> AsyncIterator[list[RawConnection]]:
    """Connections of one address to the plaintext listener, that go on with `fill`."""
    address, seen = f"127.0.0.1:{server.running.health_port}", Seen()
    connections = [await RawConnection.connect(address, None, seen, local=ATTACKER) for _ in range(count)]
    filling = [asyncio.ensure_future(fill(one)) for one in connections]
    try:
        yield connections
    finally:
        for one in filling:
            one.cancel()
        await asyncio.gather(*filling, return_exceptions=True)
        for connection in connections:
            await connection.close()


async def probed(server: Harness) -> bool:
    """Whether another address gets an answer of the plaintext listener."""
    seen = Seen()
    connection = await RawConnection.connect(f"127.0.0.1:{server.running.health_port}", None, seen)
    number, opened = connection.headers(CHECK, TIMEOUT)
    await connection.send(opened + frame(DATA, END_STREAM, number, message(b"")))
    await connection.end_of(number)
    await connection.close()
    return seen.statuses == {"0": 1}


async def test_one_address_takes_half_of_health_for_anyone_and_nothing_of_others() -> None:
    async with (
        serving([echo_service()], health_port=0) as server,
        health_attackers(server, HEALTH_CONNECTIONS_PER_ADDRESS + 6, open_streams(WATCH, 4, b"")) as connections,
    ):
        listener = server.running._health_listener
        assert listener is not None
        await wait_until("those beyond its share are closed", lambda: sum(one.open for one in connections) == 64, 20)
        await wait_until("its streams are open", lambda: listener.guard.in_flight == HEALTH_CALLS // 2, 20)
        assert await probed(server)
        async with member(server, "web") as channel:
            assert (await watching(channel).read()).status == health_pb2.HealthCheckResponse.SERVING


async def test_half_sent_requests_to_the_plaintext_listener_hold_what_health_needs_and_no_more() -> None:
    async with (
        serving([echo_service()], health_port=0) as server,
        health_attackers(server, 10, half_sent(CHECK, 50, 2 * 1024 * 1024, TIMEOUT)) as connections,
    ):
        budget = server.running._listener.budget
        seen = connections[0]._seen
        await wait_until("all are refused at the prefix", lambda: seen.statuses["8"] >= 10 * 2, 20)
        assert await probed(server)
        assert budget.total <= 10 * HEALTH_STREAMS_PER_CONNECTION * 64 * 1024


async def test_half_sent_requests_of_a_revoked_identity_are_refused_at_their_headers() -> None:
    async with serving([echo_service()]) as server:
        leaf = server.hierarchies.control.person("operators/admin/eve")
        server.revocations.serials.add(leaf.certificate.serial_number)
        seen, streams_of_one = Seen(), 20
        connection = await RawConnection.connect(server.address, client_tls(server, leaf), seen)
        filling = asyncio.ensure_future(half_sent(ECHO, streams_of_one, 200_000, TIMEOUT)(connection))
        await wait_until("each is refused", lambda: seen.statuses["16"] == streams_of_one, 20)
        assert server.running._listener.budget.total == 0
        filling.cancel()
        await asyncio.gather(filling, return_exceptions=True)
        await connection.close()


async def test_a_revoked_identity_opens_no_stream() -> None:
    async with serving([echo_service()], streams_in_flight=STREAMS) as server:
        leaf = server.hierarchies.control.person("members/eve.example.test")
        server.revocations.serials.add(leaf.certificate.serial_number)
        async with server.channel(leaf) as channel, streams(channel, STREAMS) as opened:
            assert opened == []
            assert server.running.guard.in_flight == 0
