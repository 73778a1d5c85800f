"""The first operator: an `admin` certificate over the local admin socket.

The socket has mode 0600 in a directory of mode 0700 and serves only the service's own user and root, who can read the
database and the key-encryption key anyway.
"""

import hashlib
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from keyreeve import errors
from keyreeve.identity import Role, SpiffeId
from keyreeve.values import Hierarchy, Name, NameType
from keyreeve_ca.issuance.service import Issuance, SignItem, SignRequest
from keyreeve_ca.issuance.serving_certificate import pem, service_caller
from keyreeve_ca.issuance.snapshot import IssuanceSnapshot
from keyreeve_ca.ledger.ports import InProcess
from keyreeve_ca.operators.ports import Operator
from keyreeve_ca.operators.service import Operators
from keyreeve_ca.store.ports import Transaction
from keyreeve_chassis.audit.recording import system_event

NEW_SECONDS = 2
"""For so long after it was made a process may not have heard of a record."""


@dataclass(frozen=True)
class FirstOperator:
    """Issues the certificate and returns everything that a context needs."""

    issuance: Issuance
    instance: str
    trust_root: bytes
    operators: Operators
    seen: Callable[[], Awaitable[None]]
    """Resolves once every process has had the time to hear of a new record."""

    async def admit(self, name: str, csr: bytes) -> dict[str, str]:
        """Certify the key in `csr` as `operators/admin/{name}`. Raises what SignCertificate raises."""
        snapshot = self.issuance.snapshot()
        identity = SpiffeId(snapshot.trust_domain, ("operators", "admin", name))
        try:
            SpiffeId.parse(str(identity))
        except ValueError as wrong:
            raise errors.NameRefused(f"{name!r} cannot be an operator's name: {wrong}") from None
        caller = service_caller(snapshot.trust_domain, self.instance)

        def admit(tx: Transaction) -> Operator:
            operator = self.operators.admit(tx, name, str(caller))
            tx.audit.append(system_event("admit", self.operators.now(), (("operator", str(identity)),)))
            return operator

        operator = await self.issuance.store.write(admit)
        [outcome] = await self.issuance.sign(
            SignRequest(
                caller=caller,
                origin=InProcess(),
                request_id=str(uuid.uuid4()),
                payload_sha256=hashlib.sha256(csr).digest(),
                items=(SignItem("operator", csr, (Name(NameType.URI, str(identity)),)),),
            )
        )
        if isinstance(outcome, errors.KeyreeveError):
            raise outcome
        # The record may also be that of a first attempt, which a kill cut short.
        if self.operators.now() - operator.since <= NEW_SECONDS:
            await self.seen()
        snapshot = self.issuance.snapshot()  # it may have been reloaded while the certificate was signed
        authority = snapshot.authority(outcome.authority_id)
        return {
            "trust_domain": snapshot.trust_domain,
            "identity": str(identity),
            "role": Role.ADMIN.value,
            "serial": outcome.serial.hex(),
            "not_after": str(outcome.not_after),
            "certificate_pem": pem(outcome.der).decode(),
            "chain_pem": pem(authority.certificate_der).decode(),
            "control_bundle_pem": roots_pem(snapshot, Hierarchy.CONTROL).decode(),
            "estate_bundle_pem": roots_pem(snapshot, Hierarchy.ESTATE).decode(),
            "control_root_sha256": _fingerprint(snapshot, Hierarchy.CONTROL),
            "estate_root_sha256": _fingerprint(snapshot, Hierarchy.ESTATE),
            "trust_root": self.trust_root.decode(),
        }


def roots_pem(snapshot: IssuanceSnapshot, hierarchy: Hierarchy) -> bytes:
    """The trusted roots of a hierarchy as PEM blocks."""
    return b"".join(pem(a.certificate_der) for a in snapshot.roots(hierarchy))


def _fingerprint(snapshot: IssuanceSnapshot, hierarchy: Hierarchy) -> str:
    """SHA-256 of the newest root."""
    newest = max(snapshot.roots(hierarchy), key=lambda a: (a.created_at, a.authority_id))
    return hashlib.sha256(newest.certificate_der).hexdigest()
