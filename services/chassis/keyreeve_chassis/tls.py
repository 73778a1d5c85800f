"""TLS for servers over memory buffers, with live certificates and roots.

TLS 1.3 only unless told otherwise, without tickets or cached sessions: no session resumes, so TLS checks the certificate
of every connection. asyncio's own TLS keeps 256 KiB of buffer for each connection.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import structlog
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from OpenSSL import SSL, crypto

_ALPN = b"h2"
_VERSIONS = {"1.2": SSL.TLS1_2_VERSION, "1.3": SSL.TLS1_3_VERSION}
_READ_BYTES = 64 * 1024

_log = structlog.get_logger(__name__)


class TlsFailed(Exception):
    """The peer and this server do not agree, or the connection is over."""


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

    Connections that are open stay open: `PeerVerifier` checks their certificate on every call.
    """

    def __init__(self, fetch: Callable[[], ServerIdentity]) -> None:
        """Take where to read the present identity; `fetch` must be quick."""
        self._fetch = fetch
        self._current = fetch()

    def build(self, *, ask_for_certificates: bool = True, minimum: str = "1.3") -> "TlsAcceptor":
        """Return what accepts connections for one listener, of TLS `minimum` ("1.2" or "1.3") and later.

        A listener that requests no client certificate has no callers with an identity.
        """
        return TlsAcceptor(self._latest, _Terms(_VERSIONS[minimum], ask_for_certificates=ask_for_certificates))

    def _latest(self) -> ServerIdentity:
        try:
            identity = self._fetch()
        except Exception:  # noqa: BLE001  # whatever it is, serving goes on and the log says why it is stale
            _log.exception("the server's certificate could not be read; the former one stays in use")
            return self._current
        self._current = identity
        return identity


@dataclass(frozen=True, slots=True)
class _Terms:
    """What a listener requires of its peers."""

    minimum: int
    ask_for_certificates: bool


class TlsAcceptor:
    """Begins TLS on new connections, always with the latest identity."""

    def __init__(self, identity: Callable[[], ServerIdentity], terms: _Terms) -> None:
        """Take where to read the identity."""
        self._identity = identity
        self._terms = terms
        self._used = identity()
        self._context = _context(self._used, terms)

    def accept(self) -> "TlsSession":
        """Begin a handshake."""
        identity = self._identity()
        if identity != self._used:
            try:
                self._context = _context(identity, self._terms)
            except (ValueError, SSL.Error, crypto.Error):
                _log.exception("the server's certificate cannot be used; the former one stays in use")
            self._used = identity
        connection = SSL.Connection(self._context, None)
        connection.set_accept_state()
        return TlsSession(connection)


class TlsSession:
    """One side of a TLS connection: ciphertext in and out, plain bytes in and out."""

    __slots__ = ("_connection",)

    def __init__(self, connection: SSL.Connection) -> None:
        self._connection = connection

    def handshake(self) -> bool:
        """Go on with the handshake; True when it is complete. Raises `TlsFailed`: what is left to send says so."""
        try:
            self._connection.do_handshake()
        except SSL.WantReadError:
            return False
        except SSL.Error as failed:
            raise TlsFailed(_reason(failed)) from None
        if self._connection.get_alpn_proto_negotiated() != _ALPN:
            raise TlsFailed("the peer does not speak HTTP/2")
        if self._resumed():
            # TLS has not looked at the certificate again. Nothing is kept that could be resumed: this must not happen.
            raise TlsFailed("a session was resumed")
        return True

    def _resumed(self) -> bool:
        # pyOpenSSL has no function for it.
        return bool(SSL._lib.SSL_session_reused(self._connection._ssl))  # type: ignore[attr-defined]  # noqa: SLF001

    def let_go(self) -> bool:
        """Replace the buffers of the handshake, which keep the 5 KiB that it took, with empty ones; False: they are in use."""
        # pyOpenSSL has no function for it. `SSL_set_bio` frees the former ones.
        library, connection = SSL._lib, self._connection  # type: ignore[attr-defined]  # noqa: SLF001
        former = (connection._into_ssl, connection._from_ssl)  # noqa: SLF001
        if any(library.BIO_get_mem_data(one, SSL._ffi.new("char **")) for one in former):  # type: ignore[attr-defined]  # noqa: SLF001
            return False
        fresh = [library.BIO_new(library.BIO_s_mem()) for _ in former]
        if SSL._ffi.NULL in fresh:  # type: ignore[attr-defined]  # noqa: SLF001
            raise MemoryError
        connection._into_ssl, connection._from_ssl = fresh  # noqa: SLF001
        library.SSL_set_bio(connection._ssl, *fresh)  # noqa: SLF001
        return True

    def take_in(self, ciphertext: bytes) -> None:
        """Take in bytes from the network."""
        self._connection.bio_write(ciphertext)

    def read(self) -> bytes:
        """Return what can be read now. Raises `TlsFailed` when the peer has ended the connection."""
        found = b""
        try:
            found = self._connection.recv(_READ_BYTES)
            while True:
                found += self._connection.recv(_READ_BYTES)
        except SSL.WantReadError:
            return found
        except SSL.Error as failed:
            if found:
                return found  # the end is met again at the next read
            raise TlsFailed(_reason(failed)) from None

    def write(self, data: bytes) -> None:
        """Encrypt bytes for `output`. Raises `TlsFailed`."""
        try:
            sent = self._connection.send(data)  # one record at most: pyOpenSSL enables partial writes
            if sent < len(data):
                left = memoryview(data)[sent:]
                while left:
                    left = left[self._connection.send(left) :]
        except SSL.Error as failed:
            raise TlsFailed(_reason(failed)) from None

    def close(self) -> None:
        """Say that nothing follows."""
        try:
            self._connection.shutdown()
        except SSL.Error:
            """The handshake was not complete."""

    def output(self) -> bytes:
        """Return ciphertext for the network."""
        found = b""
        try:
            while True:
                part = self._connection.bio_read(_READ_BYTES)
                found += part
                if len(part) < _READ_BYTES:
                    return found
        except SSL.WantReadError:
            return found

    @property
    def version(self) -> str:
        """Such as `TLSv1.3`."""
        return self._connection.get_protocol_version_name()

    def peer_pem(self) -> bytes | None:
        """Return the certificate of the peer."""
        found = self._connection.get_peer_certificate(as_cryptography=True)
        return None if found is None else found.public_bytes(Encoding.PEM)


def _context(identity: ServerIdentity, terms: _Terms) -> SSL.Context:
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.set_min_proto_version(terms.minimum)
    # Without both, OpenSSL sends tickets that it would have to keep, and keeps them.
    context.set_options(SSL.OP_NO_TICKET)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    # 32 KiB less for each connection that is idle.
    context.set_mode(SSL.MODE_RELEASE_BUFFERS)
    context.set_alpn_select_callback(_select)
    leaf, *issuers = x509.load_pem_x509_certificates(identity.chain_pem)
    context.use_certificate(leaf)
    for issuer in issuers:
        context.add_extra_chain_cert(issuer)
    context.use_privatekey(load_pem_private_key(identity.key_pem, None))  # type: ignore[arg-type]  # none of ours is a DH key
    context.check_privatekey()
    if terms.ask_for_certificates:
        store = context.get_cert_store()
        assert store is not None, "a context has a store"
        for root in x509.load_pem_x509_certificates(identity.roots_pem):
            store.add_cert(crypto.X509.from_cryptography(root))
        context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT)
    return context


def _select(_: SSL.Connection, offered: Sequence[bytes]) -> Any:  # noqa: ANN401  # the type of the sentinel is private
    # Without one in common the handshake goes on, and `TlsSession.handshake` ends it.
    return _ALPN if _ALPN in offered else SSL.NO_OVERLAPPING_PROTOCOLS


def _reason(failed: SSL.Error) -> str:
    if failed.args and isinstance(failed.args[0], list) and failed.args[0]:
        return str(failed.args[0][-1][-1])
    return type(failed).__name__
