"""Whose certificate a proof is made with: the check of the listeners, without their connections."""

from collections.abc import Callable
from dataclasses import replace

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from keyreeve.errors import SessionProofRefused
from keyreeve_ca.issuance.snapshot import IssuanceSnapshot
from keyreeve_ca.revocation.known_revocations import TrustViews
from keyreeve_ca.sessions.service import Holder
from keyreeve_chassis.guard.peers import PeerVerifier, TrustView


class _Unasked:
    """Revocations that say nothing: the use case asks the records."""

    def is_revoked(self, serial: int) -> bool:  # noqa: ARG002 - as in `Revocations`
        return False

    def is_session_closed(self, session: str) -> bool:  # noqa: ARG002
        return False

    def age(self) -> float:
        return 0.0


class CertificateHolders:
    """Tells whose a certificate is, as the newest snapshot has it."""

    def __init__(self, snapshot: Callable[[], IssuanceSnapshot], now: Callable[[], int]) -> None:
        self._snapshot = snapshot
        self._views = TrustViews(snapshot())
        self._verifier = PeerVerifier(self._view, now, _Unasked())

    def _view(self) -> TrustView:
        # The use case asks the records, which are newer than any snapshot.
        return replace(self._views.current(), operators=None)

    def __call__(self, certificate_der: bytes) -> Holder:
        """Whose a DER certificate is. Raises `SessionProofRefused` and the `Peer*` errors."""
        try:
            certificate = x509.load_der_x509_certificate(certificate_der)
        except ValueError:
            raise SessionProofRefused("the certificate of the proof cannot be read") from None
        self._views.show(self._snapshot())
        caller = self._verifier.verify(certificate.public_bytes(Encoding.PEM))
        not_before, not_after = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        return Holder(caller, int(not_before.timestamp()), int(not_after.timestamp()))
