"""Mutual TLS for servers, with certificate and roots replaced while serving."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

import grpc
import structlog

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ServerIdentity:
    """A server's certificate, key and client roots; all PEM."""

    chain_pem: bytes
    """The leaf first, then the issuing CAs, without the root."""
    key_pem: bytes = field(repr=False)
    roots_pem: bytes
    """The control hierarchy's trusted roots: a client's chain must end in one of them."""


class LiveServerCredentials:
    """Server credentials that call `fetch` at every handshake and use a changed identity from then on.

    TLS refuses session resumption from before a change (the ticket keys go with the configuration). Open connections
    stay open: `PeerVerifier` checks their certificate on every call.
    """

    def __init__(self, fetch: Callable[[], ServerIdentity]) -> None:
        """Take where to read the present identity; `fetch` runs on gRPC's threads and must be quick and thread-safe."""
        self._fetch = fetch
        self._lock = threading.Lock()
        self._current = fetch()

    def build(self, *, ask_for_certificates: bool = True) -> grpc.ServerCredentials:
        """Return credentials for one listener.

        A listener that requests no client certificate has no callers with an identity.
        """
        used = self._current

        def changed() -> grpc.ServerCertificateConfiguration | None:
            nonlocal used
            with self._lock:
                identity = self._latest()
                if identity == used:
                    return None
                used = identity
            return _configuration(identity)

        return grpc.dynamic_ssl_server_credentials(
            _configuration(used),
            changed,  # type: ignore[arg-type]  # None, for "as before", is documented and missing from the stubs
            require_client_authentication=ask_for_certificates,
        )

    def _latest(self) -> ServerIdentity:
        try:
            identity = self._fetch()
        except Exception:  # noqa: BLE001  # whatever it is, serving goes on and the log says why it is stale
            # gRPC would go on with the former identity all the same, and say nothing.
            _log.exception("the server's certificate could not be read; the former one stays in use")
            return self._current
        self._current = identity
        return identity


def _configuration(identity: ServerIdentity) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration(
        [(identity.key_pem, identity.chain_pem)], root_certificates=identity.roots_pem
    )
