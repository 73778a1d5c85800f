"""Sessions of operators: open on a proof, renew, close (docs/protocols.md).

The CA service checks the operator's proof itself, so a gateway can open sessions of those who are there, and of nobody else.
"""

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from keyreeve import errors
from keyreeve.identity import OPERATOR_ROLES, Caller, Role
from keyreeve.length_prefix import length_prefixed
from keyreeve.session_proofs import verify_certificate_proof
from keyreeve.session_values import AUDIENCES, CertificateProof, SessionMethod, SshProof
from keyreeve_ca.operators.ports import Operator, OperatorRecords
from keyreeve_ca.requests.key_rules import KnownKeys
from keyreeve_ca.requests.ssh_logins import SshLogin, read_login
from keyreeve_ca.revocation.ports import RevocationRecords
from keyreeve_ca.sessions.ports import Session, SessionRecords
from keyreeve_chassis.guard.peers import LENIENCY

SESSION_SECONDS = 8 * 3600
"""The longest life of a session."""
ROLE_NAMES = ("admin", "auditor", "operator")
"""User names of SSH logins that are anybody's."""
CLOCKS_DIFFER = 60
"""Seconds by which the time of a proof may differ from ours."""
_SERIAL_OCTETS = 16


class HasSessions(Protocol):
    """The part of a transaction that the use cases need."""

    @property
    def sessions(self) -> SessionRecords: ...
    @property
    def operators(self) -> OperatorRecords: ...
    @property
    def revocations(self) -> RevocationRecords: ...


@dataclass(frozen=True, slots=True)
class Scope:
    """What the tickets of a session are for."""

    audiences: tuple[str, ...] = AUDIENCES
    method_families: tuple[str, ...] = ()
    client_address: str = ""


@dataclass(frozen=True, slots=True)
class Holder:
    """Whose certificate it is, and its first and last second; which person that is, the records say."""

    caller: Caller
    not_before: int
    not_after: int


@dataclass(frozen=True, slots=True)
class CheckedProof:
    """A proof whose signature is right, and that opens a session unless it has opened one."""

    digest: bytes
    person: Callable[[HasSessions], Operator]
    """Whose it is, as the records say. Raises `PeerOperatorUnknown`, `SessionProofRefused`, `InvitationExpired`."""
    method: SessionMethod
    credential: str
    not_after: int | None
    """No session on it goes on after this second."""


@dataclass(frozen=True)
class Sessions:
    """The use cases. Every method runs in the caller's transaction."""

    now: Callable[[], int]
    identify: Callable[[bytes], Holder]
    """Whose a DER certificate is, as a listener would see it; raises the `Peer*` errors. Revocation is asked of the records."""
    known_keys: Callable[[], KnownKeys]
    """Weak and blocked keys."""
    random: Callable[[int], bytes] = os.urandom

    def check_certificate(self, gateway: Caller, proof: CertificateProof) -> CheckedProof:
        """Check a proof as far as that takes no records. Raises `SessionProofRefused` and the `Peer*` errors."""
        now = self.now()
        if abs(proof.time - now) > CLOCKS_DIFFER:
            raise errors.SessionProofRefused(
                f"the proof is dated {proof.time - now} s from this machine's clock",
                metadata={"server_time": str(now), "max_seconds": str(CLOCKS_DIFFER)},
            )
        verify_certificate_proof(proof, gateway.spki_sha256)
        holder = self.identify(proof.certificate_der)
        if holder.caller.role not in OPERATOR_ROLES:
            raise errors.SessionProofRefused(f"{holder.caller} is no operator")
        time = proof.time.to_bytes(8, "big")
        digest = hashlib.sha256(length_prefixed(proof.certificate_der, gateway.spki_sha256, proof.nonce, time)).digest()
        serial = holder.caller.serial.to_bytes(_SERIAL_OCTETS, "big")

        def person(tx: HasSessions) -> Operator:
            found = _person(tx, holder.caller.id.path[-1], holder.caller.role)
            if holder.not_before + LENIENCY < found.since:
                raise errors.PeerOperatorUnknown("the certificate is older than the record of this person in this role")
            if tx.revocations.of([serial]):
                raise errors.PeerCertificateRevoked(f"the certificate of {holder.caller} has been revoked")
            return found

        return CheckedProof(digest, person, SessionMethod.CERTIFICATE, serial.hex(), holder.not_after)

    def check_ssh(self, proof: SshProof, client_address: str) -> CheckedProof:
        """The same for an SSH login. Raises `SessionProofRefused`."""
        login = read_login(proof, self.known_keys(), self.now())
        login.refuse_elsewhere(client_address)
        by = login.authority or login.key

        def person(tx: HasSessions) -> Operator:
            found = _logged_in(tx, login, proof.user_name)
            if self.now() > found.renews_until and not login.key.hardware:
                raise errors.InvitationExpired(
                    "the last invitation is more than 7 days ago; another admin has to invite again",
                    metadata={"invited_at": str(found.invited_at)},
                )
            return found

        method = SessionMethod.SSH_KEY if login.authority is None else SessionMethod.SSH_CERTIFICATE
        # Not the signature, of which there may be several over one message.
        digest = hashlib.sha256(length_prefixed(proof.session_id, proof.public_key)).digest()
        return CheckedProof(digest, person, method, by.fingerprint, login.not_after)

    def open(self, tx: HasSessions, gateway: Caller, proof: CheckedProof, scope: Scope) -> Session:
        """Open a session. Raises `SessionProofUsed`, and what finding the person raises."""
        now, person = self.now(), proof.person(tx)
        if tx.sessions.is_used(proof.digest):
            raise errors.SessionProofUsed("a session was opened with this proof before")
        longest = now + SESSION_SECONDS
        session = Session(
            session_id=((now * 1000).to_bytes(6, "big") + self.random(10)).hex(),
            identity=str(person.identity(gateway.id.trust_domain)),
            person_uid=person.person_uid,
            gateway=str(gateway),
            method=proof.method,
            credential=proof.credential,
            client_address=scope.client_address,
            audiences=scope.audiences,
            method_families=scope.method_families,
            proof_sha256=proof.digest,
            opened_at=now,
            ends_at=longest if proof.not_after is None else min(longest, proof.not_after),
        )
        tx.sessions.add(session)
        return session

    def goes_on(self, tx: HasSessions, session_id: str, gateway: Caller) -> Session:
        """Return a session of this gateway that can have another ticket. Raises `SessionClosed`."""
        session, now = tx.sessions.find(session_id), self.now()
        if session is None or session.closed_at is not None or now > session.ends_at or session.gateway != str(gateway):
            raise errors.SessionClosed("the session was closed or has ended")
        serial = session.certificate_serial
        if serial and tx.revocations.of([serial]):
            raise errors.SessionClosed("the certificate with which the session was opened has been revoked")
        try:
            person = _person(tx, session.identity.rpartition("/")[2], session.role)
        except errors.PeerOperatorUnknown as unknown:
            raise errors.SessionClosed(unknown.message) from None
        if person.person_uid != session.person_uid or session.opened_at < person.since:
            raise errors.SessionClosed("the session is older than the record of this person in this role")
        return session

    def close(self, tx: HasSessions, session_id: str, by: Caller) -> Session:
        """Close a session: admins any, others their own. Raises `SessionNotFound`."""
        session = tx.sessions.find(session_id)
        if session is None or (by.role is not Role.ADMIN and session.person_uid != by.person_uid):
            raise errors.SessionNotFound(f"there is no session {session_id[:80]!a} that {by} may close")
        if session.closed_at is not None:
            return session
        closed = replace(session, closed_at=self.now(), closed_by=str(by))
        tx.sessions.close(closed)
        return closed

    def page(self, tx: HasSessions, by: Caller, *, after: str, limit: int) -> Sequence[Session]:
        """The sessions that have not ended: admins and auditors see all, operators their own."""
        own = by.person_uid if by.role is Role.OPERATOR else None
        return tx.sessions.page(self.now(), person_uid=own, after=after, limit=limit)


def _person(tx: HasSessions, name: str, role: Role) -> Operator:
    """The record of an operator in a role. Raises `PeerOperatorUnknown`."""
    person = tx.operators.find(name)
    if person is None or person.role is not role:
        raise errors.PeerOperatorUnknown("there is no record of this person in this role")
    return person


def _logged_in(tx: HasSessions, login: SshLogin, user_name: str) -> Operator:
    """Whose SSH login it is; the user name decides nothing. Raises `SessionProofRefused`."""
    if login.authority is None:
        found = tx.operators.holder_of_key(login.key.fingerprint)
        people = [] if found is None else [found]
    else:
        named = filter(None, map(tx.operators.find, sorted(login.principals)))
        people = [one for one in named if _is_registered(tx, one, login.authority.fingerprint)]
    if len(people) > 1:
        people = [one for one in people if one.name == user_name]
    if len(people) != 1:
        raise errors.SessionProofRefused("the key or the certificate of the login is nobody's")
    if user_name not in {people[0].name, *ROLE_NAMES}:
        raise errors.SessionProofRefused("the user name of the login is not that of the person whose key it is")
    return people[0]


def _is_registered(tx: HasSessions, person: Operator, fingerprint: str) -> bool:
    return any(each.key.fingerprint == fingerprint for each in tx.operators.ssh_authorities(person.person_uid))
