"""The serving certificate of this process, issued in process through the signing path."""

import asyncio
import logging
import uuid
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from keyreeve import errors
from keyreeve.identity import Caller, Role, SpiffeId, service_dns_name
from keyreeve.values import Name, NameType
from keyreeve_ca.issuance.service import Issuance, SignItem, SignRequest
from keyreeve_ca.issuance.snapshot import TRUSTED, IssuanceSnapshot
from keyreeve_ca.ledger.ports import InProcess

_RETRY_SECONDS = 30
_LOOK_SECONDS = 60

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Credentials:
    """A certificate and its key, both PEM; the key stays in this process."""

    chain_pem: bytes
    key_pem: bytes
    serial: int
    authority_id: str
    issued_at: int
    not_after: int

    def __repr__(self) -> str:
        return f"Credentials(not_after={self.not_after})"


def service_caller(trust_domain: str, instance: str) -> Caller:
    """The CA service as a caller of itself."""
    return Caller(SpiffeId(trust_domain, ("services", "ca", instance)), Role.CA, serial=0)


@dataclass
class ServingCertificate:
    """Keeps the serving certificate fresh. Not frozen: it holds the newest one."""

    issuance: Issuance
    snapshot: Callable[[], IssuanceSnapshot]
    changed_since: Callable[[int], Awaitable[None]]
    """Resolves once the snapshot's version is no longer the given one."""
    instance: str
    now: Callable[[], int]
    renewed: Callable[[int, int], None] = lambda _issued_at, _not_after: None
    """Told the validity of the newest certificate."""
    profile: str = "service"
    server: str = "ca"
    """First label of the reserved DNS name that it carries."""
    is_revoked: Callable[[int], bool] = lambda _serial: False
    """Whether a certificate with this serial number has been revoked."""
    of_newest: bool = False
    """Renew at once when another authority has become the one that issues."""
    current: Credentials | None = None

    def sign(self, message: bytes) -> tuple[bytes, tuple[bytes, ...]]:
        """Sign with the serving key (ECDSA with SHA-256); also return the DER chain, leaf first."""
        current = self.current
        assert current is not None, "renew() has run once"
        key = serialization.load_pem_private_key(current.key_pem, None)
        assert isinstance(key, ec.EllipticCurvePrivateKey), "renew() makes P-256 keys"
        chain = x509.load_pem_x509_certificates(current.chain_pem)
        der = tuple(one.public_bytes(serialization.Encoding.DER) for one in chain)
        return key.sign(message, ec.ECDSA(hashes.SHA256())), der

    async def ready(self) -> None:
        """Return once there is a certificate to sign with: where nothing keeps one fresh, it is made on first use."""
        if self.current is None or self._seconds_to_renewal() <= 0:
            await self.renew()

    async def renew(self) -> None:
        """Make a key and issue a certificate for it."""
        trust_domain = self.snapshot().trust_domain
        caller = service_caller(trust_domain, self.instance)
        key = ec.generate_private_key(ec.SECP256R1())
        csr = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
        names = (
            Name(NameType.URI, str(caller.id)),
            Name(NameType.DNS, service_dns_name(self.server, trust_domain)),
        )
        csr_der = csr.public_bytes(serialization.Encoding.DER)
        [outcome] = await self.issuance.sign(
            SignRequest(
                caller=caller,
                origin=InProcess(),
                request_id=str(uuid.uuid4()),
                payload_sha256=b"",
                items=(SignItem(self.profile, csr_der, names),),
            )
        )
        if isinstance(outcome, errors.KeyreeveError):
            raise outcome
        authority = self.snapshot().authority(outcome.authority_id)
        self.current = Credentials(
            chain_pem=pem(outcome.der) + pem(authority.certificate_der),
            key_pem=key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            ),
            serial=int.from_bytes(outcome.serial, "big"),
            authority_id=outcome.authority_id,
            issued_at=outcome.issued_at,
            not_after=outcome.not_after,
        )
        self.renewed(outcome.issued_at, outcome.not_after)

    async def obtain(self) -> None:
        """`renew`, retried until an authority can issue: after a long outage recovery must come first."""
        told = False
        while True:
            version = self.snapshot().config_version
            try:
                return await self.renew()
            except (errors.AuthorityExpiring, errors.NoActiveAuthority) as asleep:
                if not told:
                    log.error(  # noqa: TRY400  # it is no failure of ours, and the message says it all
                        "this process cannot get a certificate (%s): run `keyreeve recover` on this machine", asleep
                    )
                told = True
            await self.changed_since(version)

    async def keep_fresh(self) -> None:
        """Renew at two thirds of the lifetime, and within a minute when it or its issuer stops being valid."""
        while True:
            version = self.snapshot().config_version
            wait = self._seconds_to_renewal()
            if wait > 0:
                with suppress(TimeoutError):
                    # Not the whole time at once: the clock may be set.
                    async with asyncio.timeout(min(wait, _LOOK_SECONDS)):
                        await self.changed_since(version)
                continue
            try:
                await self.renew()
            except errors.KeyreeveError:
                log.exception("the service's own certificate could not be renewed")
                await asyncio.sleep(_RETRY_SECONDS)

    def _seconds_to_renewal(self) -> float:
        current = self.current
        assert current is not None, "renew() has run once"
        if self.is_revoked(current.serial) or self.snapshot().authority(current.authority_id).state not in TRUSTED:
            return 0
        if self.of_newest and not self._is_of_newest(current):
            return 0
        return current.issued_at + (current.not_after - current.issued_at) * 2 / 3 - self.now()

    def _is_of_newest(self, current: Credentials) -> bool:
        snapshot = self.snapshot()
        try:
            newest = snapshot.issuing_authority(snapshot.profile(self.profile), None)
        except errors.KeyreeveError:
            return True  # there is nothing newer to be had
        return newest.issuer.authority_id == current.authority_id


def pem(der: bytes) -> bytes:
    """Return a DER certificate as a PEM block."""
    return x509.load_der_x509_certificate(der).public_bytes(serialization.Encoding.PEM)
