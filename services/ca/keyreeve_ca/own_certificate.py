"""The certificate with which this process serves: issued to itself, in process, by the signing path like any other."""

import asyncio
import logging
import uuid
from collections.abc import Callable
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from keyreeve import errors
from keyreeve.identity import Caller, Role, SpiffeId, service_dns_name
from keyreeve_ca.catalogue import Catalogue
from keyreeve_ca.issuance import Issuance, SignItem, SignRequest
from keyreeve_ca.rules.name import Name, NameType

IN_PROCESS = "in-process"
"""The method of requests that no RPC brought."""
_RETRY_SECONDS = 30

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Credentials:
    """A certificate and its key, both PEM; the key never leaves this process."""

    chain_pem: bytes
    key_pem: bytes
    not_after: int

    def __repr__(self) -> str:
        return f"Credentials(not_after={self.not_after})"


def own_caller(trust_domain: str, instance: str) -> Caller:
    """This service as a caller of itself."""
    return Caller(SpiffeId(trust_domain, ("services", "ca", instance)), Role.CA, serial=0)


@dataclass
class OwnCertificate:
    """Keeps the process's certificate fresh. Not frozen: it holds the newest one."""

    issuance: Issuance
    catalogue: Callable[[], Catalogue]
    instance: str
    now: Callable[[], int]
    current: Credentials | None = None

    async def renew(self) -> None:
        """Make a key and have a certificate issued for it."""
        trust_domain = self.catalogue().trust_domain
        caller = own_caller(trust_domain, self.instance)
        key = ec.generate_private_key(ec.SECP256R1())
        csr = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
        names = (
            Name(NameType.URI, str(caller.id)),
            Name(NameType.DNS, service_dns_name("ca", trust_domain)),
        )
        csr_der = csr.public_bytes(serialization.Encoding.DER)
        [outcome] = await self.issuance.sign(
            SignRequest(
                caller=caller,
                method=IN_PROCESS,
                request_id=str(uuid.uuid4()),
                payload_sha256=b"",
                items=(SignItem("service", csr_der, names),),
            )
        )
        if isinstance(outcome, errors.KeyreeveError):
            raise outcome
        authority = self.catalogue().authorities[outcome.authority_id]
        self.current = Credentials(
            chain_pem=pem(outcome.der) + pem(authority.certificate_der),
            key_pem=key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            ),
            not_after=outcome.not_after,
        )

    async def keep_fresh(self) -> None:
        """Renew at two thirds of the life, and at once when the authority that issued it is no longer trusted."""
        version = self.catalogue().config_version
        while True:
            assert self.current is not None, "renew() has run once"
            left = self.current.not_after - self.now()
            await asyncio.sleep(min(max(left / 2, 0), 60) if left > 0 else 0)
            changed = self.catalogue().config_version != version
            version = self.catalogue().config_version
            if not changed and self.current.not_after - self.now() > self._last_third():
                continue
            try:
                await self.renew()
            except errors.KeyreeveError:
                log.exception("the service's own certificate could not be renewed")
                await asyncio.sleep(_RETRY_SECONDS)

    def _last_third(self) -> float:
        return self.catalogue().profile("service").profile.default_lifetime.total_seconds() / 3


def pem(der: bytes) -> bytes:
    """A DER certificate as one PEM block."""
    return x509.load_der_x509_certificate(der).public_bytes(serialization.Encoding.PEM)
