"""Processes that share a listener: the kernel chooses one for each connection, and they spread what it gave them."""

from contextlib import AsyncExitStack
from pathlib import Path

import grpc
import pytest

from keyreeve.context import Context
from keyreeve.identity import service_dns_name
from keyreeve_bench.echo import service
from support.waiting import wait_until


def sockets_of(pid: int) -> int:
    """Open sockets of a process."""
    return sum(str(entry.readlink()).startswith("socket:") for entry in Path(f"/proc/{pid}/fd").iterdir())


@pytest.mark.faults
async def test_8_connections_are_spread_evenly_over_2_processes(tmp_path: Path) -> None:
    async with service("keyreeve_bench.echo", tmp_path, {"answer": ""}, 2) as (file, children):
        context, before = Context.load(file), [sockets_of(child.pid) for child in children]
        credentials = grpc.ssl_channel_credentials(
            context.bundle.read_bytes(), context.key.read_bytes(), context.certificate.read_bytes()
        )
        options = [("grpc.ssl_target_name_override", service_dns_name("ca", context.trust_domain))]
        options += [("grpc.use_local_subchannel_pool", 1)]
        async with AsyncExitStack() as stack:
            for _ in range(8):
                channel = grpc.aio.secure_channel(context.endpoint("ca"), credentials, options=options)
                await (await stack.enter_async_context(channel)).channel_ready()

            def counts() -> list[int]:
                return [sockets_of(child.pid) - known for child, known in zip(children, before, strict=True)]

            await wait_until("both have 4 connections", lambda: counts() == [4, 4], 10)
