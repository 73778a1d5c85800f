"""One client process that resolves credentials: `python -m keyreeve_bench.resolving`, driven by its parent.

As the clients of signings it sends messages that were encoded beforehand and decodes no more of an answer than tells
success: on a shared machine the client's CPU time is part of the result.
"""

import asyncio
import itertools
import random
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from keyreeve import channel_credentials
from keyreeve.context import Context
from keyreeve.credentials.v1 import resolution_service_pb2 as pb
from keyreeve.errors import StartFailed
from keyreeve.status import error_from_rpc
from keyreeve_bench import children
from keyreeve_bench.children import Document, Parent, serve_parent
from keyreeve_bench.vault_names import APPLICATION, ARRAY, SERVER, owner_of

METHOD = "/keyreeve.credentials.v1.ResolutionService/ResolveCredential"
PROCESSES, CONNECTIONS = 2, 4
"""Client processes, and connections of each, as those of signings."""
_SAMPLE = 5_000
_TIMEOUT = 30.0


def requests(entries: int, seed: int) -> list[bytes]:
    """Launches of a sample of the owners in a filled vault."""
    some = random.Random(seed)  # noqa: S311 - a sample
    return [
        pb.ResolveCredentialRequest(
            launch=pb.Launch(
                parent=f"arrays/{ARRAY}",
                owner=owner_of(some.randrange(entries)),
                application=APPLICATION,
                application_server=SERVER,
            )
        ).SerializeToString()
        for _ in range(_SAMPLE)
    ]


async def resolve(orders: dict[str, Any], parent: Parent) -> Document:
    """Carry out the parent's orders; the number of credentials."""
    context = Context.load(orders["context"])
    files = channel_credentials.read(context)
    # Without this option all channels of a process share one connection.
    options = [*channel_credentials.channel_options(context, "credentials"), ("grpc.use_local_subchannel_pool", 1)]
    prepared = itertools.cycle(requests(orders["entries"], orders["process"]))
    async with AsyncExitStack() as stack:
        methods: list[Any] = []
        for _ in range(CONNECTIONS):
            channel = grpc.aio.secure_channel(context.endpoint("credentials"), files.channel_credentials(), options)
            await stack.enter_async_context(channel)
            methods.append(channel.unary_unary(METHOD))
            first = pb.ResolveCredentialResponse.FromString(await methods[-1](next(prepared), timeout=_TIMEOUT))
            if first.WhichOneof("result") != "credential":
                raise StartFailed("a launch was answered without a credential")
        done, began = 0, await parent.ready()
        end = began + orders["seconds"]

        async def caller(index: int) -> None:
            nonlocal done
            method = methods[index % CONNECTIONS]
            await asyncio.sleep(began - time.monotonic())
            while True:
                await method(next(prepared), timeout=_TIMEOUT)
                if time.monotonic() >= end:
                    return
                done += 1

        try:
            async with asyncio.TaskGroup() as group:
                for index in range(orders["in_flight"]):
                    group.create_task(caller(index))
        except* grpc.RpcError as failures:
            failure = failures.exceptions[0]
            assert isinstance(failure, grpc.RpcError)
            raise error_from_rpc(failure, "credentials") from None
    return {"done": done}


async def resolves_per_second(context: Path, entries: int, seconds: float, in_flight: int) -> float:
    """Resolve with so many calls in flight, over all client processes. Raises `keyreeve.errors`."""
    orders = [
        {
            "context": str(context),
            "entries": entries,
            "process": number,
            "seconds": seconds,
            "in_flight": in_flight // PROCESSES,
        }
        for number in range(PROCESSES)
    ]
    async with AsyncExitStack() as stack:
        started = await children.start_all("keyreeve_bench.resolving", orders, stack)
        await children.begin_all(started)
        results = await children.results_of(started)
    done: int = sum(result["done"] for result in results)
    return round(done / seconds, 1)


if __name__ == "__main__":
    serve_parent(resolve)
