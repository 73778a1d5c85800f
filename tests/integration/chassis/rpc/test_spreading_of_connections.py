"""Workers that share a listener: connections are spread evenly, and a worker that stops loses none."""

import asyncio
import select
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import grpc

from support.echo_service import ECHO, EchoRequest, EchoResponse, echo_service
from support.ports import free_port
from support.running import Harness, serving
from support.waiting import wait_until


@asynccontextmanager
async def workers(directory: Path, count: int, **settings: object) -> AsyncIterator[list[Harness]]:
    """Servers of one port that know each other."""
    async with AsyncExitStack() as stack:
        found = [await stack.enter_async_context(serving([echo_service()], shared=directory, **settings))]
        for _ in range(count - 1):
            settings = {**settings, "port": found[0].running.port}
            found.append(
                await stack.enter_async_context(
                    serving([echo_service()], found[0].hierarchies, shared=directory, **settings)
                )
            )
        yield found


@asynccontextmanager
async def channels(server: Harness, count: int) -> AsyncIterator[list[grpc.aio.Channel]]:
    """Clients with a connection each, opened at once."""
    async with AsyncExitStack() as stack:
        leaf = server.hierarchies.control.person("operators/admin/ann")
        found = [await stack.enter_async_context(server.channel(leaf)) for _ in range(count)]
        await asyncio.gather(*(answered(channel) for channel in found))
        yield found


async def answered(channel: grpc.aio.Channel) -> None:
    echo = channel.unary_unary(ECHO, EchoRequest.SerializeToString, EchoResponse.FromString)
    assert (await echo(EchoRequest(text="here"), timeout=20)).text == "here"


def largest_share(servers: Sequence[Harness]) -> float:
    """The largest number of connections of a server, as a multiple of the mean."""
    counts = [server.running.connections for server in servers]
    return max(counts) * len(counts) / sum(counts)


async def test_the_largest_share_of_8_connections_on_2_workers_is_at_most_a_quarter_above_the_mean(tmp_path):
    async with workers(tmp_path, 2) as servers:
        for _ in range(5):
            async with channels(servers[0], 8):
                assert largest_share(servers) <= 1.25
            await wait_until("they are closed", lambda: not any(server.running.connections for server in servers))


async def test_connections_that_come_one_after_the_other_are_spread_over_three_workers(tmp_path):
    async with workers(tmp_path, 3) as servers, AsyncExitStack() as stack:
        for _ in range(12):
            await stack.enter_async_context(channels(servers[0], 1))
        assert [server.running.connections for server in servers] == [4, 4, 4]


async def test_new_connections_fill_what_ended_ones_have_left(tmp_path):
    async with workers(tmp_path, 2) as servers, channels(servers[0], 8):
        before = [server.running.connections for server in servers]
        for one in list(servers[0].running._listener._connections):
            one.abort()
        await wait_until("they are closed", lambda: servers[0].running.connections == 0)
        leaf = servers[0].hierarchies.control.person("operators/admin/bob")
        async with AsyncExitStack() as stack:
            for _ in range(before[0]):
                channel = await stack.enter_async_context(servers[0].channel(leaf))
                await answered(channel)
            assert largest_share(servers) <= 1.25


async def test_a_worker_that_stops_hands_over_what_it_has_accepted_and_gets_nothing_more(tmp_path):
    async with workers(tmp_path, 2) as (first, second):
        host, port = first.address.split(":")
        with socket.create_connection((host, int(port)), timeout=20):
            await first.running.stop(0)
            async with channels(second, 8):
                assert first.running.connections == 0
                assert second.running.connections >= 8


async def test_what_a_killed_worker_left_is_passed_over_and_removed(tmp_path):
    port = free_port()
    left = tmp_path / f"c{port}-00000000"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as killed:
        killed.bind(str(left))
    async with workers(tmp_path, 2, port=port) as servers, channels(servers[0], 4):
        assert largest_share(servers) == 1
        assert not left.exists()


async def test_a_worker_that_does_not_read_its_queue_is_passed_over_once_that_is_full(tmp_path):
    port = free_port()
    queue = tmp_path / f"c{port}-00000000"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as hung:
        hung.bind(str(queue))
        async with workers(tmp_path, 1, port=port) as (server,):
            fill(queue)
            async with channels(server, 2):
                assert server.running.connections >= 2


async def test_a_worker_starts_beside_one_that_does_not_read_its_queue_and_tells_it_later(tmp_path):
    port = free_port()
    queue = tmp_path / f"c{port}-00000000"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as hung:
        hung.bind(str(queue))
        hung.setblocking(False)
        fill(queue)
        async with workers(tmp_path, 1, port=port) as (server,), channels(server, 2):
            assert server.running.connections >= 2
            while readable(hung):
                assert hung.recv(5) == b"x"
            await wait_until("it is told of the new worker", lambda: readable(hung))
            assert hung.recv(5)[0] == 1  # JOINED, which it answers with its number of connections
    assert not [path for path in tmp_path.iterdir() if path != queue]


def readable(one: socket.socket) -> bool:
    return bool(select.select([one], [], [], 0)[0])


def fill(queue: Path) -> None:
    """Send until a socket takes nothing more."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        other.setblocking(False)
        try:
            for _ in range(100_000):
                other.sendto(b"x", str(queue))
        except BlockingIOError:
            return
    raise AssertionError("its queue has no end")
