"""Operators: invite, change role, change keys, remove (docs/operators.md).

A certificate alone does not authorize an operator: the role in its path and the role in the record must agree, on every
call. The records travel with the snapshot, so a change takes effect everywhere within a second.
"""

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from keyreeve import errors
from keyreeve.identity import OPERATOR_ROLES, Caller, Role, SpiffeId
from keyreeve.values import CrlReason
from keyreeve_ca.enrollment.ports import StoredToken, TokenState
from keyreeve_ca.operators.dual_control import DualControl
from keyreeve_ca.operators.ports import Operator, RegisteredKey
from keyreeve_ca.requests.openssh_keys import OperatorKey
from keyreeve_ca.revocation.ports import NewRevocation
from keyreeve_ca.store.ports import CertificateFilter, Transaction

_MANY = 100_000
"""Certificates of one person that are looked at: 12 hours each, so no person has as many."""
_CLOCKS_DIFFER = 3600
"""Seconds after its end for which a certificate is revoked all the same."""
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\Z")


@dataclass(frozen=True)
class Operators:
    """The use cases, each inside the caller's transaction."""

    trust_domain: str
    now: Callable[[], int]
    random: Callable[[int], bytes] = os.urandom
    two_persons: bool = False

    @property
    def dual_control(self) -> DualControl:
        """Which changes take two persons."""
        return DualControl(self.now, self.two_persons)

    def invite(self, tx: Transaction, name: str, role: Role, by: str) -> Operator:
        """Create an operator record, or renew the invitation, which may take two persons.

        Raises `NameRefused`, `OperatorExists`, `SecondPersonRequired`.
        """
        _check_name(name)
        known = tx.operators.find(name)
        if known is not None and str(known.identity(self.trust_domain)) == by:
            raise errors.SecondPersonRequired("operators cannot invite themselves", metadata={"approver": by})
        if known is not None and known.role is not role:
            raise errors.OperatorExists(
                f"{name!r} is in the role {known.role.value}; change that instead", metadata={"role": known.role.value}
            )
        self.dual_control.check(tx, by, name, role)
        return self._invite(tx, known, name, role, by)

    def _invite(self, tx: Transaction, known: Operator | None, name: str, role: Role, by: str) -> Operator:
        now = self.now()
        if known is None:
            person = self._new(name, role, by)
            # One issued while its holder was being removed belongs to them, whatever the clocks say.
            identity = str(person.identity(self.trust_domain))
            self._revoke_certificates(tx, identity, by, CrlReason.CESSATION_OF_OPERATION)
            tx.operators.add(person)
        else:
            person = replace(known, invited_at=now, invited_by=by)
            tx.operators.update(person)
        tx.bump_config()
        return person

    def admit(self, tx: Transaction, name: str, by: str) -> Operator:
        """Record root on the CA's machine as an admin, whatever the record said before."""
        _check_name(name)
        known = tx.operators.find(name)
        if known is not None and known.role is not Role.ADMIN:
            known = self._change_role(tx, known, Role.ADMIN, by)
        return self._invite(tx, known, name, Role.ADMIN, by)

    def change_role(self, tx: Transaction, name: str, role: Role, by: str) -> Operator:
        """Change an operator's role; older certificates and tokens stop working.

        Raises `OperatorNotFound`, `LastAdmin`, `SecondPersonRequired`.
        """
        known = self.get(tx, name)
        if known.role is role:
            return known
        self.dual_control.check(tx, by, name, role)
        return self._change_role(tx, known, role, by)

    def _change_role(self, tx: Transaction, known: Operator, role: Role, by: str) -> Operator:
        self._refuse_last_admin(tx, known)
        self._put_out(tx, known, by, CrlReason.PRIVILEGE_WITHDRAWN)
        person = replace(known, role=role, since=self.now())
        # Of an earlier time in this role: what that was revoked for is still so.
        identity = str(person.identity(self.trust_domain))
        self._revoke_certificates(tx, identity, by, CrlReason.PRIVILEGE_WITHDRAWN)
        tx.operators.update(person)
        tx.bump_config()
        return person

    def change_keys(self, tx: Transaction, name: str, keys: Sequence[OperatorKey], by: str) -> Operator:
        """Replace an operator's keys; keys that stay keep who added them and when.

        Raises `OperatorNotFound`, `SecondPersonRequired`, `KeyReused`.
        """
        known = self.get(tx, name)
        if operator_of(tx, by) == known.person_uid:
            raise errors.SecondPersonRequired("operators cannot change their own keys", metadata={"approver": by})
        wanted = {key.fingerprint: key for key in keys}
        for other in tx.operators.active():
            if other.person_uid != known.person_uid:
                for held in other.keys:
                    if held.key.fingerprint in wanted:
                        raise errors.KeyReused(
                            f"the key {held.key.fingerprint} is {other.name!r}'s; one key is one person's",
                            metadata={"fingerprint": held.key.fingerprint},
                        )
        before = {each.key.fingerprint: each for each in known.keys}
        if wanted.keys() - before.keys():
            self.check_new_credential(tx, known, by)
        new = [RegisteredKey(key, self.now(), by) for key in wanted.values()]
        kept = [replace(before.get(each.key.fingerprint, each), key=each.key) for each in new]
        person = replace(known, keys=tuple(sorted(kept, key=lambda each: each.key.fingerprint)))
        tx.operators.set_keys(known.person_uid, person.keys)
        close_sessions(tx, known.person_uid, {*before} - {*wanted}, self.now(), by)
        tx.bump_config()
        return person

    def check_new_credential(self, tx: Transaction, known: Operator, by: str) -> None:
        """Check an SSH key or CA that would identify a person: for an admin, it takes the approval of an invitation.

        Who registers a key of their own in an admin's record acts as two persons. Raises `SecondPersonRequired`.
        """
        self.dual_control.check(tx, by, known.name, known.role)

    def remove(self, tx: Transaction, name: str, by: str) -> Operator:
        """Remove an operator for good. Raises `OperatorNotFound`, `LastAdmin`, `SecondPersonRequired`."""
        known = self.get(tx, name)
        self.dual_control.check(tx, by, name, None)
        self._refuse_last_admin(tx, known)
        self._put_out(tx, known, by, CrlReason.CESSATION_OF_OPERATION)
        person = replace(known, removed_at=self.now(), removed_by=by, keys=())
        tx.operators.update(person)
        tx.operators.set_keys(known.person_uid, ())
        tx.operators.set_ssh_authorities(known.person_uid, ())
        tx.bump_config()
        return person

    def get(self, tx: Transaction, name: str) -> Operator:
        """The operator with this name now. Raises `OperatorNotFound`."""
        known = tx.operators.find(name)
        if known is None:
            raise errors.OperatorNotFound(f"there is no person {name[:80]!a}", metadata={"name": name[:80]})
        return known

    def _new(self, name: str, role: Role, by: str) -> Operator:
        now = self.now()
        uid = ((now * 1000).to_bytes(6) + self.random(10)).hex()
        return Operator(uid, name, role, created_at=now, invited_at=now, invited_by=by, since=now)

    def _put_out(self, tx: Transaction, person: Operator, by: str, reason: CrlReason) -> None:
        """Revoke the operator's certificates, and end the tokens that they created or could use."""
        identity, now = str(person.identity(self.trust_domain)), self.now()
        self._revoke_certificates(tx, identity, by, reason)
        tx.tokens.revoke_made_by([identity], now)
        for token in _tokens_for(tx, identity):
            tx.tokens.revoke(token.token_id, now)

    def _revoke_certificates(self, tx: Transaction, identity: str, by: str, reason: CrlReason) -> None:
        """Revoke every certificate of an identity that some clock may still take for a valid one."""
        now = self.now()
        entries = tx.certificates(CertificateFilter(identity=identity, revoked=False), after=b"", limit=_MANY)
        tx.revocations.add(
            [
                NewRevocation(entry.serial, entry.authority_id, entry.not_after, reason, now, by)
                for entry in entries
                if entry.not_after >= now - _CLOCKS_DIFFER
            ]
        )

    def _refuse_last_admin(self, tx: Transaction, leaving: Operator) -> None:
        """Raise `LastAdmin`. An admin who never enrolled does not count."""
        if leaving.role is not Role.ADMIN:
            return
        for other in tx.operators.active():
            if other.role is Role.ADMIN and other.person_uid != leaving.person_uid:
                issued = CertificateFilter(identity=str(other.identity(self.trust_domain)))
                if any(c.issued_at >= other.since for c in tx.certificates(issued, after=b"", limit=_MANY)):
                    return
        raise errors.LastAdmin(
            f"without {leaving.name!r} there would be no admin who has ever had a certificate",
            metadata={"name": leaving.name},
        )


def close_sessions(tx: Transaction, person_uid: str, credentials: set[str], now: int, by: str) -> None:
    """Close the open sessions of a person that were opened with any of these keys or CAs."""
    for session in tx.sessions.page(now, person_uid=person_uid, after="", limit=None):
        if session.credential in credentials:
            tx.sessions.close(replace(session, closed_at=now, closed_by=by))


def _tokens_for(tx: Transaction, identity: str) -> list[StoredToken]:
    """Tokens that can still enroll the identity; the tokens of 30 days are few."""
    found: list[StoredToken] = []
    after = b""
    while rows := tx.tokens.page(after=after, limit=500):
        found += [t for t in rows if t.identity == identity and t.state in (TokenState.OPEN, TokenState.BOUND)]
        after = rows[-1].token_id
    return found


def refuse_uninvited_renewal(person: Operator | None, now: int, nonce: Callable[[], str]) -> None:
    """Raise unless the operator's certificate may be renewed now.

    Raises `PeerOperatorUnknown`, `InvitationExpired`. Operators with a key in a device get a nonce, which that key may
    sign in place of a new invitation.
    """
    if person is None:
        raise errors.PeerOperatorUnknown("there is no record of this person in this role")
    if now > person.renews_until:
        raise errors.InvitationExpired(
            "the last invitation is more than 7 days ago; another admin has to invite again",
            metadata={"invited_at": str(person.invited_at)}
            | ({"nonce": nonce()} if any(each.key.hardware for each in person.keys) else {}),
        )


def first_second(caller: Caller, person: Operator | None) -> int:
    """The first second whose certificates count as the caller's own; 0 for programs.

    An operator name can be given again after removal: `person` is the record under the caller's name now. Raises
    `PeerOperatorUnknown` when it is no longer the caller's.
    """
    if not caller.person_uid:
        return 0
    if person is None or person.person_uid != caller.person_uid:
        raise errors.PeerOperatorUnknown("there is no record of this person in this role")
    return person.created_at


def operator_of(tx: Transaction, caller: str) -> str:
    """The actor that dual control compares: an operator's uid, or the identity of a program."""
    identity = SpiffeId.parse(caller)
    known = tx.operators.find(identity.path[-1]) if identity.role in OPERATOR_ROLES else None
    return caller if known is None else known.person_uid


def _check_name(name: str) -> None:
    if not _NAME.match(name):
        why = "1-63 lower-case letters, digits and hyphens, beginning and ending with a letter or digit"
        raise errors.NameRefused(
            f"{name[:80]!a} cannot be an operator's name: {why}", violations=[errors.Violation("operator_id", why)]
        )
