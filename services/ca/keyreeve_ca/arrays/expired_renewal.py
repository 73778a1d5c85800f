"""Renewal of a member's expired control certificate, bounded in time, for members that are still in the roll."""

import hashlib
import uuid
from collections.abc import Callable
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature

from keyreeve import errors
from keyreeve.identity import Caller, Role, SpiffeId
from keyreeve.values import MemberState
from keyreeve_ca.issuance.renewal import (
    Nonces,
    Proof,
    proof_message,
    renewal_superseded,
    signed_certificate,
    successor_of,
    verify_proof,
)
from keyreeve_ca.issuance.service import Issuance, LedgerEntry, SignItem, SignRequest
from keyreeve_ca.ledger.ports import AuditRecord, Rpc
from keyreeve_ca.requests.csr import check_possession, read_csr
from keyreeve_ca.revocation.ports import Revocation
from keyreeve_ca.store.ports import CertificateFilter, Store, StoredCertificate, Transaction

METHOD = "/keyreeve.ca.v1.EnrollmentService/RenewExpired"
_PROFILE = "member"
_KNOWN = frozenset({MemberState.STANDALONE, MemberState.JOINING, MemberState.MEMBER, MemberState.DETACHING})
_ANYONE = "anyone"
"""The caller that nonces are made for: it has no identity yet."""


@dataclass(frozen=True, slots=True)
class _Facts:
    old: StoredCertificate
    successor: StoredCertificate | None
    revocation: Revocation | None
    is_newest: bool
    is_known: bool


@dataclass(frozen=True)
class ExpiredRenewal:
    """The use case of RenewExpired."""

    store: Store
    issuance: Issuance
    nonces: Nonces
    seconds: int
    """After the end of a certificate; 0: off."""
    now: Callable[[], int]

    async def renew(
        self, serial: bytes, csr: bytes, proof: Proof | None, record: AuditRecord | None = None
    ) -> tuple[bytes, ...]:
        """Renew for the key in `csr`; the new certificate with its chain. Raises the reasons in the RPC's comment."""
        if proof is None:
            raise errors.RenewalProofRequired(
                "sign the nonce with the old key and repeat the call",
                metadata={"nonce": self.nonces.make(_ANYONE, serial)},
            )
        self.nonces.check(proof.nonce, _ANYONE, serial)
        request = read_csr(csr)
        check_possession(request)
        snapshot = self.issuance.snapshot()
        try:
            facts = await self.store.read(lambda tx: _read(tx, serial))
            verify_proof(
                facts.old.der, proof.signature, proof_message(snapshot.trust_domain, serial, request.spki, proof.nonce)
            )
        except (errors.CertificateNotFound, InvalidSignature):
            raise errors.RenewalProofInvalid("the signature was not made by the key of such a certificate") from None
        self._check(facts)
        old = facts.old
        if facts.successor is not None:
            if facts.successor.spki_sha256 != request.spki_sha256:
                raise renewal_superseded(old)
            entry: LedgerEntry = facts.successor
        else:
            identity = SpiffeId.parse(old.identity)
            outcomes = await self.issuance.sign(
                SignRequest(
                    caller=Caller(identity, Role.MEMBER, int.from_bytes(serial)),
                    origin=Rpc(METHOD),
                    # One request for each certificate and key: a lost answer is given again.
                    request_id=str(
                        uuid.UUID(bytes=hashlib.sha256(serial + request.spki_sha256).digest()[:16], version=4)
                    ),
                    payload_sha256=hashlib.sha256(serial + request.spki_sha256).digest(),
                    items=(SignItem(profile=old.profile_name, csr=csr),),
                    record=record,
                    prepare=successor_of(old, None),
                )
            )
            entry = signed_certificate(outcomes)
        issuing = self.issuance.snapshot().authority(entry.authority_id)
        return (entry.der, issuing.certificate_der)

    def _check(self, facts: _Facts) -> None:
        old, now = facts.old, self.now()
        if facts.revocation is not None:
            raise errors.CertificateRevoked(
                f"the certificate has been revoked ({facts.revocation.reason})", metadata={"serial": old.serial.hex()}
            )
        why = None
        if old.profile_name != _PROFILE:
            why = "only certificates of members are renewed after their end"
        elif now <= old.not_after:
            why = "the certificate has not expired: renew it over a connection that presents it"
        elif now > old.not_after + self.seconds:
            why = f"the certificate expired more than {self.seconds // 86_400} days ago"
        elif not facts.is_known:
            why = f"{old.identity} is no member that the membership service knows"
        elif facts.successor is None and not facts.is_newest:
            why = "the identity has a newer certificate"
        if why is not None:
            raise errors.RenewalNotAllowed(why)


def _read(tx: Transaction, serial: bytes) -> _Facts:
    old = tx.certificate(serial)
    later = CertificateFilter(identity=old.identity, issued_from=old.issued_at)
    newest = tx.certificates(later, after=b"", limit=100)
    member = tx.arrays.member(old.identity)
    return _Facts(
        old,
        tx.successor(serial),
        tx.revocations.of([serial]).get(serial),
        all(one.serial == serial for one in newest),
        member is not None and member.state in _KNOWN,
    )
