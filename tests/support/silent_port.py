"""A peer port that finishes the TLS handshake and then says nothing, or no more than HTTP/2 settings."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from support.peer_certificates import Leaf

SETTINGS = bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
"""An empty SETTINGS frame (RFC 9113 6.5): the caller takes the connection for ready, and sends its request."""


@dataclass
class SilentPort:
    """Where it listens, and the certificates of those whose handshake it has finished."""

    address: str = ""
    callers: list[bytes] = field(default_factory=list)


@asynccontextmanager
async def silent_port(leaf: Leaf, trusted: bytes, directory: Path, says: bytes = b"") -> AsyncIterator[SilentPort]:
    """Serve with `leaf`, for callers with a certificate of the CAs in `trusted` (PEM)."""
    files = directory / "silent.pem", directory / "silent.key"
    files[0].write_bytes(leaf.chain_pem)
    files[1].write_bytes(leaf.key_pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*files)
    context.load_verify_locations(cadata=trusted.decode())
    context.verify_mode = ssl.CERT_REQUIRED
    context.set_alpn_protocols(["h2"])
    port = SilentPort()
    open_now: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None, "the server runs it as one"
        open_now[task] = writer
        port.callers.append(writer.get_extra_info("ssl_object").getpeercert(binary_form=True))
        writer.write(says)
        with suppress(OSError):
            while await reader.read(65536):
                pass
        writer.transport.abort()

    server = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=context)
    port.address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield port
    finally:
        server.close()
        for writer in open_now.values():  # a caller that has given up keeps its connection for some seconds
            writer.transport.abort()
        await asyncio.gather(*open_now)
