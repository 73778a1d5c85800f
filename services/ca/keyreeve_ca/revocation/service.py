"""Revoke one certificate."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from keyreeve import errors
from keyreeve.identity import INNER_SERVICE_ROLES, OPERATOR_ROLES, SERVICE_ROLES, Caller, Role, SpiffeId
from keyreeve.values import CrlReason, Hierarchy
from keyreeve_ca.issuance.renewal import certificate_not_found
from keyreeve_ca.operators.service import first_second
from keyreeve_ca.revocation.ports import NewRevocation, Revocation
from keyreeve_ca.store.ports import StoredCertificate, Transaction

_SEE_ALL = OPERATOR_ROLES | INNER_SERVICE_ROLES
_ADMINS_ALONE = OPERATOR_ROLES | SERVICE_ROLES
"""Roles of certificates that an operator may not revoke: those who run the control plane cannot be removed from below."""


@dataclass(frozen=True)
class Revoking:
    """The use case of RevokeCertificate."""

    now: Callable[[], int]

    def revoke(
        self, tx: Transaction, caller: Caller, serial: bytes, reason: CrlReason, *, lineage: bool | None = None
    ) -> tuple[StoredCertificate, Revocation]:
        """Revoke a certificate, or return how it was revoked before.

        With its `lineage`, all valid certificates go that it renewed or that renewed it; None: when its key is compromised.

        Raises `CertificateNotFound`, `CertificateExpired`, `RevocationNotAllowed`, `PeerOperatorUnknown`.
        """
        try:
            entry = tx.certificate(serial)
        except errors.CertificateNotFound:
            raise certificate_not_found(serial) from None
        hierarchy = tx.authority(entry.authority_id).hierarchy
        person = tx.operators.find(caller.id.path[-1]) if caller.person_uid else None
        if not may_revoke(caller, entry, hierarchy, first_second(caller, person)):
            if caller.role in _SEE_ALL or str(caller) == entry.identity:
                raise errors.RevocationNotAllowed(
                    f"{caller} may not revoke a certificate of {entry.identity}", metadata={"serial": serial.hex()}
                )
            raise certificate_not_found(serial)
        with_line = reason is CrlReason.KEY_COMPROMISE if lineage is None else lineage
        every = [entry, *(line_of(tx, entry) if with_line else ())]
        valid = [one for one in every if one.not_after >= self.now()]
        before = tx.revocations.of([one.serial for one in every])
        if serial not in before and not valid:
            raise errors.CertificateExpired("the certificate has expired, so there is nothing to revoke")
        made = tx.revocations.add(
            [
                NewRevocation(one.serial, one.authority_id, one.not_after, reason, self.now(), str(caller))
                for one in valid
                if one.serial not in before
            ]
        )
        known = before | {one.serial: one for one in made}
        # An expired certificate is not revoked itself, only what renewed it.
        return entry, known.get(serial, next(iter(known.values())))


def line_of(tx: Transaction, entry: StoredCertificate) -> Iterator[StoredCertificate]:
    """The certificates that this one renewed, and those that renewed it."""
    after = entry
    while (successor := tx.successor(after.serial)) is not None:
        yield (after := successor)
    before = entry
    while before.renews is not None:
        found = tx.certificates_by_serial([before.renews])
        if before.renews not in found:
            return
        yield (before := found[before.renews])


def may_revoke(caller: Caller, entry: StoredCertificate, hierarchy: Hierarchy, since: int = 0) -> bool:
    """Whether this caller may revoke this certificate.

    Certificates issued before `since` do not count as the caller's own.
    """
    own = entry.caller == str(caller) or (hierarchy is Hierarchy.CONTROL and entry.identity == str(caller))
    if (own and entry.issued_at >= since) or caller.role is Role.ADMIN:
        return True
    match caller.role:
        case Role.OPERATOR:
            return hierarchy is not Hierarchy.CONTROL or SpiffeId.parse(entry.identity).role not in _ADMINS_ALONE
        case Role.MEMBERSHIP:
            return hierarchy is Hierarchy.STANDALONE
    return False
