"""Peer verification: the caller's certificate is checked on every call.

TLS checks a certificate once per connection and not at all when a session is resumed: a connection outlives the
certificate's expiry, and so does a session ticket. So every call is checked here, by our own clock and against the
trust of the moment.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

import structlog
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID

from keyreeve.caller_values import MemberRecord
from keyreeve.errors import (
    KeyreeveError,
    PeerCertificateExpired,
    PeerCertificateMissing,
    PeerCertificateNotYetValid,
    PeerCertificateRevoked,
    PeerIdentityInvalid,
    PeerIssuerUnknown,
    PeerOperatorUnknown,
    PeerTrustDomainWrong,
    RevocationsStale,
)
from keyreeve.identity import OPERATOR_ROLES, Caller, SpiffeId
from keyreeve.trusted_certificates import issuer_among
from keyreeve_chassis.guard.access import Freshness

DEFAULT_CACHE_SIZE = 4096
"""Certificates remembered; about 2 kB each."""
LENIENCY = 360
"""Seconds by which a person's certificate or session may begin before their record: 5 minutes of backdating, 1 of clocks."""
_ALARM_SECONDS = 60.0
"""The log says at most this often that calls are answered with stale knowledge."""

_log = structlog.get_logger(__name__)


class Revocations(Protocol):
    """What this process knows of revocations; asked on every call, so it answers from memory."""

    def is_revoked(self, serial: int) -> bool:
        """Whether the certificate with this serial number has been revoked."""
        ...

    def is_session_closed(self, session: str) -> bool:
        """Whether the session of an operator with this id has been closed."""
        ...

    def age(self) -> float:
        """Seconds since the data was known to be complete."""
        ...


class Members(Protocol):
    """What this process knows of members of arrays; answers from memory."""

    def member(self, identity: SpiffeId | str) -> MemberRecord | None:
        """The record of the member with this SPIFFE ID; None: it is no member."""
        ...


@dataclass(frozen=True, slots=True)
class OperatorRecord:
    """The part of an operator's record that listeners need."""

    uid: str
    since: int
    """The second from which on certificates count: an older one of the same name belonged to another person or role."""


@dataclass(frozen=True, slots=True)
class TrustView:
    """Whom this process trusts; replaced as a whole, with a new generation, on each change."""

    trust_domain: str
    issuers: tuple[x509.Certificate, ...]
    """The control hierarchy's issuing CAs, and no others: they alone vouch for callers."""
    generation: int
    """A view of another generation makes everything that was decided before it void."""
    operators: Mapping[str, OperatorRecord] | None = None
    """The records of the people who may operate, by identity; None: not asked."""


@dataclass(frozen=True, slots=True)
class _Window:
    """The seconds, both inclusive (RFC 5280 4.1.2.5), in which the certificate and its issuer are both valid."""

    not_before: int
    not_after: int
    issuer_not_before: int
    issuer_not_after: int


@dataclass(slots=True)
class _Known:
    caller: Caller
    window: _Window
    reported: bool = False


@dataclass(frozen=True, slots=True)
class _Refused:
    error: type[KeyreeveError]
    message: str


class PeerVerifier:
    """Turns the PEM of a client certificate into a `Caller`. Cheap for certificates seen before."""

    def __init__(
        self,
        trust: Callable[[], TrustView],
        now: Callable[[], int],
        revocations: Revocations,
        *,
        cache_size: int = DEFAULT_CACHE_SIZE,
        first_seen: Callable[[Caller], None] = lambda _: None,
    ) -> None:
        """Take the current trust, the clock (seconds since 1970) and the revocations; each is asked on every call.

        `first_seen` is told of a certificate when it is accepted for the first time, or for the first time in long.
        """
        self._first_seen = first_seen
        self._trust = trust
        self._now = now
        self._revocations = revocations
        self._alarmed_at = float("inf")
        self._cache_size = cache_size
        self._cache: OrderedDict[bytes, _Known | _Refused] = OrderedDict()
        self._view: TrustView | None = None

    def verify(self, pem: bytes | None) -> Caller:
        """Return the identity of the certificate `pem`.

        Raises the `Peer*` errors of `keyreeve.errors`. What does not depend on time is decided once per certificate and
        generation of trust; validity is compared on every call.
        """
        if not pem:
            raise PeerCertificateMissing("the connection carries no client certificate")
        view = self._trust()
        if self._view is None or view.generation != self._view.generation:
            self._cache.clear()
            self._view = view
        found = self._cache.get(pem)
        if found is None:
            found = _examine(pem, view)
            self._cache[pem] = found
            if len(self._cache) > self._cache_size:
                self._cache.popitem(last=False)
        else:
            self._cache.move_to_end(pem)
        if isinstance(found, _Refused):
            raise found.error(found.message)
        now = self._now()
        window = found.window
        if not window.not_before <= now <= window.not_after:
            raise _outside(window, now, found.caller)
        if not window.issuer_not_before <= now <= window.issuer_not_after:
            raise PeerIssuerUnknown("the authority that issued the client certificate is outside its own validity")
        if self._revocations.is_revoked(found.caller.serial):
            raise PeerCertificateRevoked(
                f"the certificate of {found.caller} has been revoked",
                metadata={"serial": f"{found.caller.serial:032x}"},
            )
        if not found.reported:
            found.reported = True
            self._first_seen(found.caller)
        return found.caller

    def check_freshness(self, wanted: Freshness) -> None:
        """Raise `RevocationsStale` when the revocation data is too old for such a call."""
        age = self._revocations.age()
        if age > wanted.value:
            raise RevocationsStale(
                f"what is known here of revoked certificates is {age:.0f} s old; this call allows {wanted.value:g} s",
                metadata={"age_seconds": f"{age:.0f}", "max_seconds": f"{wanted.value:g}"},
            )
        if age > Freshness.STRICT.value and wanted is Freshness.TOLERANT:
            self._alarm(age)

    def _alarm(self, age: float) -> None:
        # The age itself is the clock: it only grows while nothing is heard.
        if not self._alarmed_at <= age < self._alarmed_at + _ALARM_SECONDS:
            self._alarmed_at = age
            _log.warning(
                "nothing has been heard of revocations: reads and renewals go on, other calls are refused",
                age_seconds=round(age),
                until_seconds=Freshness.TOLERANT.value,
            )


def _outside(window: _Window, now: int, caller: Caller) -> KeyreeveError:
    if now > window.not_after:
        return PeerCertificateExpired(
            f"the certificate of {caller} expired {now - window.not_after} s ago",
            metadata={"not_after": str(window.not_after), "server_time": str(now)},
        )
    return PeerCertificateNotYetValid(
        f"the certificate of {caller} is valid in {window.not_before - now} s",
        metadata={"not_before": str(window.not_before), "server_time": str(now)},
    )


def _examine(pem: bytes, view: TrustView) -> _Known | _Refused:  # noqa: PLR0911  # one for each reason
    """Decide everything about a certificate that does not depend on time, from verified bytes only."""
    try:
        certificate = x509.load_pem_x509_certificate(pem)
    except (ValueError, UnsupportedAlgorithm):
        return _Refused(PeerIdentityInvalid, "the client certificate cannot be read")
    issuer = issuer_among(certificate, view.issuers)
    if issuer is None:
        return _Refused(
            PeerIssuerUnknown, "the client certificate was not issued by an authority of the control hierarchy"
        )
    if not _is_usual_key(certificate):
        return _Refused(PeerIdentityInvalid, "the client certificate's key is neither RSA nor on P-256 or P-384")
    try:
        identity = identity_of(certificate.extensions)
    except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as why:
        return _Refused(PeerIdentityInvalid, f"the client certificate has no usable identity: {why}")
    if identity.trust_domain != view.trust_domain:
        return _Refused(PeerTrustDomainWrong, f"{identity} does not belong to the trust domain {view.trust_domain}")
    role = identity.role
    if role is None:
        return _Refused(PeerIdentityInvalid, f"{identity} has no form that this control plane knows")
    window = _Window(
        _second(certificate.not_valid_before_utc),
        _second(certificate.not_valid_after_utc),
        _second(issuer.not_valid_before_utc),
        _second(issuer.not_valid_after_utc),
    )
    if role not in OPERATOR_ROLES or view.operators is None:
        return _Known(Caller(identity, role, certificate.serial_number, spki_sha256=_spki_sha256(certificate)), window)
    record = view.operators.get(str(identity))
    if record is None or window.not_before + LENIENCY < record.since:
        return _Refused(PeerOperatorUnknown, f"no record of a person agrees with the certificate of {identity}")
    return _Known(
        Caller(identity, role, certificate.serial_number, record.uid, spki_sha256=_spki_sha256(certificate)), window
    )


def _spki_sha256(certificate: x509.Certificate) -> bytes:
    spki = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(spki).digest()


def _is_usual_key(certificate: x509.Certificate) -> bool:
    """Whether the key is of a kind that every TLS library of our clients handles; BoringSSL refuses the others."""
    try:
        key = certificate.public_key()
    except (ValueError, UnsupportedAlgorithm):
        return False
    return isinstance(key, rsa.RSAPublicKey) or (
        isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1 | ec.SECP384R1)
    )


def identity_of(extensions: x509.Extensions) -> SpiffeId:
    """Read the one URI name of a client certificate. Raises `ValueError` for anything else."""
    found = {type(extension.value): extension.value for extension in extensions}
    usage = found.get(x509.ExtendedKeyUsage)
    if not isinstance(usage, x509.ExtendedKeyUsage) or ExtendedKeyUsageOID.CLIENT_AUTH not in usage:
        raise ValueError("it is not for client authentication")
    constraints = found.get(x509.BasicConstraints)
    if isinstance(constraints, x509.BasicConstraints) and constraints.ca:
        raise ValueError("it is an authority's")
    names = found.get(x509.SubjectAlternativeName)
    uris = (
        names.get_values_for_type(x509.UniformResourceIdentifier)
        if isinstance(names, x509.SubjectAlternativeName)
        else []
    )
    if len(uris) != 1:
        raise ValueError(f"it holds {len(uris)} URI names where exactly one identifies")
    return SpiffeId.parse(uris[0])


def _second(moment: datetime) -> int:
    return int(moment.timestamp())
