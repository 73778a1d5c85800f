"""A Service of Kubernetes on loopback: each connection goes to one of the pods that accept it."""

import asyncio
import random
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

Address = tuple[str, int]


@dataclass(frozen=True)
class Forwarder:
    """One port; it knows which addresses a pod may have, and finds out which of them accept."""

    pods: Sequence[Address]
    rng: random.Random = field(default_factory=lambda: random.Random(1))

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        for host, port in self.rng.sample(self.pods, len(self.pods)):
            with suppress(OSError):
                return await asyncio.open_connection(host, port)
        return None

    async def forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connected = await self.connect()
        if connected is not None:
            await asyncio.gather(copy(reader, connected[1]), copy(connected[0], writer))
        writer.close()


async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Copy until the end, and end the other side too."""
    with suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


@contextmanager
def forwarders(services: Sequence[Forwarder]) -> Iterator[list[int]]:
    """Forward until the context is left; yields their ports."""
    listening: Future[list[int]] = Future()
    stop = threading.Event()

    async def serve() -> None:
        servers = [await asyncio.start_server(each.forward, "127.0.0.1", 0) for each in services]
        listening.set_result([server.sockets[0].getsockname()[1] for server in servers])
        await asyncio.to_thread(stop.wait)
        for server in servers:
            server.close()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    try:
        yield listening.result(10)
    finally:
        stop.set()
        thread.join(10)
