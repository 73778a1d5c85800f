"""The SSH listener."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncssh

from keyreeve_gateway.service_settings import SshSettings
from keyreeve_gateway.ssh.connection import SIGNATURE_ALGORITHMS, GatewayConnection, LoginServer, SshDoor
from keyreeve_gateway.ssh.key_exchange import RemoteHostKey, offer_key_exchanges

CIPHERS = ("chacha20-poly1305@openssh.com", "aes256-gcm@openssh.com", "aes128-gcm@openssh.com")


@asynccontextmanager
async def open_listener(settings: SshSettings, door: SshDoor) -> AsyncIterator[int]:
    """Listen until the context is left; yields the port."""
    options = asyncssh.SSHServerConnectionOptions(
        config=None,
        server_factory=lambda: LoginServer(door),
        server_host_keys=[RemoteHostKey(door.host_key.algorithm, door.host_key.public_key)],
        server_version="Keyreeve",
        kex_algs=offer_key_exchanges(),
        encryption_algs=CIPHERS,
        compression_algs=None,
        signature_algs=SIGNATURE_ALGORITHMS,
        host_based_auth=False,
        password_auth=False,
        kbdint_auth=False,
        gss_host=None,
        agent_forwarding=False,
        x11_forwarding=False,
        allow_scp=False,
        sftp_version=3,
        line_history=100,
        max_line_length=4_096,
        login_timeout=settings.login_seconds,
        keepalive_interval=30,
        keepalive_count_max=3,
    )
    loop = asyncio.get_running_loop()
    connections: set[GatewayConnection] = set()

    def accept() -> asyncio.Protocol:
        connections.difference_update([each for each in connections if each.is_closed()])
        if len(connections) >= settings.connections:
            return _Refused()
        connection = GatewayConnection(loop, options, door)
        connections.add(connection)
        return connection

    server = await loop.create_server(accept, settings.host, settings.port)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for connection in connections:
            connection.abort()


class _Refused(asyncio.Protocol):
    """A connection above the limit."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Close it."""
        transport.close()
