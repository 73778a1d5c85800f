"""Revoking certificates: who may, and what becomes of it."""

from collections.abc import Callable
from dataclasses import dataclass

from keyreeve import errors
from keyreeve.identity import OPERATOR_ROLES, SERVICE_ROLES, Caller, Role, SpiffeId
from keyreeve_ca.people import first_second
from keyreeve_ca.registry import StoredCertificate, Transaction
from keyreeve_ca.renewal import certificate_not_found
from keyreeve_ca.revocations import NewRevocation, Revocation, RevocationReason
from keyreeve_ca.rules.profile import Tree

_SEE_ALL = OPERATOR_ROLES | SERVICE_ROLES
_ADMINS_ALONE = OPERATOR_ROLES | SERVICE_ROLES
"""Roles of certificates that an operator may not revoke: who keeps the plane must not be put out from below."""


@dataclass(frozen=True)
class Revoking:
    """The use case behind RevokeCertificate."""

    now: Callable[[], int]

    def revoke(
        self, tx: Transaction, caller: Caller, serial: bytes, reason: RevocationReason
    ) -> tuple[StoredCertificate, Revocation]:
        """Revoke a certificate, or answer how it was revoked before.

        Raises `CertificateNotFound`, `CertificateExpired`, `RevocationNotAllowed`, `PeerPersonUnknown`.
        """
        try:
            entry = tx.certificate(serial)
        except errors.CertificateNotFound:
            raise certificate_not_found(serial) from None
        tree = tx.authority(entry.authority_id).tree
        person = tx.people.find(caller.id.path[-1]) if caller.person_uid else None
        if not may_revoke(caller, entry, tree, first_second(caller, person)):
            if caller.role in _SEE_ALL or str(caller) == entry.identity:
                raise errors.RevocationNotAllowed(
                    f"{caller} may not revoke a certificate of {entry.identity}", metadata={"serial": serial.hex()}
                )
            raise certificate_not_found(serial)
        before = tx.revocations.of([serial])
        if serial in before:
            return entry, before[serial]
        if self.now() > entry.not_after:
            raise errors.CertificateExpired("the certificate has expired, so there is nothing to revoke")
        [made] = tx.revocations.add(
            [NewRevocation(serial, entry.authority_id, entry.not_after, reason, self.now(), str(caller))]
        )
        return entry, made


def may_revoke(caller: Caller, entry: StoredCertificate, tree: Tree, since: int = 0) -> bool:
    """Whether this caller may revoke this certificate. What was issued before `since` is not the caller's own."""
    own = entry.caller == str(caller) or (tree is Tree.CONTROL and entry.identity == str(caller))
    if (own and entry.issued_at >= since) or caller.role is Role.ADMIN:
        return True
    match caller.role:
        case Role.OPERATOR:
            return tree is not Tree.CONTROL or SpiffeId.parse(entry.identity).role not in _ADMINS_ALONE
        case Role.MEMBERSHIP:
            return tree is Tree.STANDALONE
    return False
