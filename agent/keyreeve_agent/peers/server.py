"""The peer port: gRPC over mutual TLS with the material of the moment.

grpcio's own server, unlike the services': the agent has loaded grpcio anyway for its calls, and the services' listener
would add 8 MiB (docs/adr/0024-grpcio-server-on-the-peer-port.md).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio

from keyreeve_agent.peers.servicer import PeerServicer
from keyreeve_agent.peers.view import ArrayView, LoadedMaterial

_OPTIONS: Sequence[tuple[str, Any]] = (
    ("grpc.max_receive_message_length", 4096),
    ("grpc.max_metadata_size", 8192),
    ("grpc.max_concurrent_streams", 32),
    ("grpc.max_connection_idle_ms", 300_000),
    ("grpc.max_connection_age_ms", 1_800_000),  # below the shortest life of a certificate
    ("grpc.max_connection_age_grace_ms", 10_000),
    ("grpc.server_handshake_timeout_ms", 10_000),
    ("grpc.so_reuseport", 0),
)
_MOST_CALLS = 128


@dataclass
class PeerServer:
    """Serves PeerService from the first material on, until `stop`."""

    view: ArrayView
    servicer: PeerServicer
    listen: str
    """Host and port."""
    _server: grpc.aio.Server | None = None
    _used: LoadedMaterial | None = None
    port: int = 0

    async def start(self) -> None:
        """Begin to serve; `view.loaded` must be there. Raises `RuntimeError` when the port cannot be bound."""
        if self._server is not None:
            return
        loaded = self.view.loaded
        assert loaded is not None, "there is a certificate to present"
        self._used = loaded
        server = grpc.aio.server(options=_OPTIONS, maximum_concurrent_rpcs=_MOST_CALLS)
        server.add_generic_rpc_handlers((self.servicer.handlers(),))
        credentials = grpc.dynamic_ssl_server_credentials(
            _configuration(loaded), self._fetch, require_client_authentication=True
        )
        self.port = server.add_secure_port(self.listen, credentials)
        await server.start()
        self._server = server

    async def stop(self, grace: float = 1.0) -> None:
        """Take no new calls, and end those in progress after `grace` seconds."""
        server, self._server = self._server, None
        if server is not None:
            await server.stop(grace)

    def _fetch(self) -> Any:  # noqa: ANN401 - grpcio gives its type no public name
        """Asked by gRPC at every handshake, in its own thread; None: nothing has changed."""
        loaded = self.view.loaded
        if loaded is None or loaded is self._used:
            return None
        self._used = loaded
        return _configuration(loaded)


def _configuration(loaded: LoadedMaterial) -> Any:  # noqa: ANN401
    return grpc.ssl_server_certificate_configuration(
        [(loaded.material.key_pem, loaded.certificate_pem)], root_certificates=loaded.bundle_pem
    )
