"""An identity's files as a server needs them: reloaded when they change."""

import threading

import structlog
from cryptography import x509

from keyreeve import channel_credentials
from keyreeve.context import Context
from keyreeve.errors import ContextInvalid
from keyreeve_chassis.telemetry.certificates import show_serving_certificate
from keyreeve_chassis.tls import ServerIdentity

_log = structlog.get_logger(__name__)


class LiveIdentity:
    """What a listener presents and which roots it trusts, as the files of a context now have it. Thread-safe.

    Files that cannot be used (a key without its certificate, say) change nothing: what they held before stays in use.
    """

    def __init__(self, context: Context) -> None:
        """Read the files. Raises `ContextInvalid`."""
        self._context = context
        self._lock = threading.Lock()
        self._seen = channel_credentials.signature_of(context)
        self._take(channel_credentials.read(context))

    def server_identity(self) -> ServerIdentity:
        """The certificate chain, the key and the trusted roots: for `LiveServerCredentials`."""
        with self._lock:
            self._refresh()
            return self._identity

    def roots(self) -> tuple[x509.Certificate, ...]:
        """The roots of the control hierarchy; the same object until they change."""
        with self._lock:
            self._refresh()
            return self._roots

    def _refresh(self) -> None:
        seen = channel_credentials.signature_of(self._context)
        if seen is None or seen == self._seen:
            return
        self._seen = seen
        try:
            self._take(channel_credentials.read(self._context))
        except ContextInvalid as failure:
            _log.warning("the identity's files cannot be used; the former ones stay in use", error=failure.message)

    def _take(self, files: channel_credentials.TlsFiles) -> None:
        leaf = x509.load_pem_x509_certificate(files.certificate)
        show_serving_certificate(int(leaf.not_valid_before_utc.timestamp()), int(leaf.not_valid_after_utc.timestamp()))
        self._identity = ServerIdentity(files.certificate, files.key, files.bundle)
        self._roots = tuple(x509.load_pem_x509_certificates(files.bundle))
