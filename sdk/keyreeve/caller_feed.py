"""A service's verified copy of the caller feed, stored on disk.

`KnownCallers` holds in memory which issuing CAs are accepted, the operators' records, which certificates are revoked, and
the age of that knowledge. `keyreeve.aio.Client.trust.watch_callers` brings the updates.
"""

import hashlib
import json
import time
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Self

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from keyreeve.caller_values import CallersUpdate, IssuingAuthority, MemberRecord, OperatorRecord
from keyreeve.errors import CallersRefused
from keyreeve.files import PRIVATE, write_atomically
from keyreeve.identity import Role, SpiffeId
from keyreeve.length_prefix import length_prefixed
from keyreeve.values import AuthorityState, MemberState, OperatorRole

ACCEPTED = frozenset({AuthorityState.ACTIVE, AuthorityState.RETIRING})
"""States of an issuing CA in which its leaves are accepted."""
SKEW = 600
"""Seconds for which the revocation of an expired certificate is kept."""
_LABEL = b"keyreeve-callers-1"
_SAVE_SECONDS = 60.0
"""Interval of writing the file while nothing but the time has changed."""
_CLOCKS = 60
"""Longest difference between the two clocks, in seconds."""


def update_message(trust_domain: str, update: CallersUpdate) -> bytes:
    """Encode the signed message of an update (docs/protocols.md)."""
    numbers = (update.restore_generation, update.after_seq, update.seq, update.head_seq, update.time)
    authorities = (
        length_prefixed(one.name.encode(), one.state.value.encode(), one.certificate_der) for one in update.authorities
    )
    operators = (
        length_prefixed(
            one.name.encode(),
            one.person_uid.encode(),
            one.role.value.encode(),
            _number(one.since),
            b"\x01" if one.removed else b"\x00",
        )
        for one in update.operators
    )
    revoked = (length_prefixed(serial, _number(not_after)) for serial, not_after in update.revoked)
    return length_prefixed(
        _LABEL,
        trust_domain.encode(),
        *(_number(number) for number in numbers),
        *(_digest(entries) for entries in (authorities, operators, revoked)),
        # Only where there are any: an update without members or sessions is signed as before there were any.
        *([_digest(map(_member, update.members))] if update.members or update.closed_sessions else []),
        *([_digest(map(_session, update.closed_sessions))] if update.closed_sessions else []),
    )


def _member(record: MemberRecord) -> bytes:
    return length_prefixed(
        record.member_uid.encode(),
        record.identity.encode(),
        record.array.encode(),
        record.state.value.encode(),
        b"\x01" if record.primary else b"\x00",
        b"\x01" if record.removed else b"\x00",
    )


def _session(closed: tuple[str, int]) -> bytes:
    session, end = closed
    return length_prefixed(session.encode(), _number(end))


def _number(value: int) -> bytes:
    return value.to_bytes(8, "big")


def _digest(entries: Iterable[bytes]) -> bytes:
    return hashlib.sha256(length_prefixed(*entries)).digest()


@dataclass
class _State:
    """All callers as of a sequence number."""

    restore_generation: int = 0
    seq: int = 0
    authorities: dict[str, IssuingAuthority] = field(default_factory=dict)
    operators: dict[str, OperatorRecord] = field(default_factory=dict)
    expiry: dict[int, int] = field(default_factory=dict)
    members: dict[str, MemberRecord] = field(default_factory=dict)
    closed_sessions: dict[str, int] = field(default_factory=dict)

    def take(self, update: CallersUpdate) -> None:
        self.authorities.update((one.name, one) for one in update.authorities)
        for record in update.operators:
            if record.removed:
                self.operators.pop(record.person_uid, None)
            else:
                self.operators[record.person_uid] = record
        for member in update.members:
            if member.removed:
                self.members.pop(member.member_uid, None)
            else:
                self.members[member.member_uid] = member
        self.expiry.update((int.from_bytes(serial, "big"), not_after) for serial, not_after in update.revoked)
        self.closed_sessions.update(update.closed_sessions)
        self.restore_generation, self.seq = update.restore_generation, update.seq


class KnownCallers:
    """The callers as of the last update. Not thread-safe."""

    def __init__(
        self,
        trust_domain: str,
        path: Path | None = None,
        *,
        now: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Start without callers.

        With `path`, `saving` stores them in that file (mode 0600).
        """
        self.trust_domain = trust_domain
        self._path = path
        self._now = now
        self._clock = clock
        self._known = _State()
        self._snapshot: _State | None = None
        self._updated = float("-inf")
        self._saved = float("-inf")
        self._unsaved = False
        self._signer: tuple[x509.Certificate, ...] = ()
        self._path_of: tuple[Sequence[x509.Certificate], Sequence[x509.Certificate]] | None = None
        self._signer_path: tuple[x509.Certificate, ...] = ()
        self._issuers: tuple[x509.Certificate, ...] = ()
        self._operators: Mapping[str, OperatorRecord] = {}
        self._members: Mapping[str, MemberRecord] = {}

    @classmethod
    def load(
        cls,
        trust_domain: str,
        path: Path,
        *,
        now: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ) -> Self:
        """Start with the contents of the file.

        Without callers when it does not exist or cannot be read.
        """
        made = cls(trust_domain, path, now=now, clock=clock)
        try:
            kept = json.loads(path.read_bytes())
            if kept["trust_domain"] != trust_domain:
                return made
            held, heard_at = _from_json(kept), float(kept["heard_at"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return made
        made._known = held
        made._updated = clock() - max(0.0, now() - heard_at)
        made._derive()
        return made

    # --- What is known ----------------------------------------------------------------------------------------------

    @property
    def position(self) -> tuple[int, int]:
        """The restore generation and sequence number from which to follow the feed."""
        return self._known.restore_generation, self._known.seq

    @property
    def issuers(self) -> tuple[x509.Certificate, ...]:
        """The issuing CAs whose leaves are accepted. The same object until that changes."""
        return self._issuers

    @property
    def operators(self) -> Mapping[str, OperatorRecord]:
        """The operators' records by SPIFFE ID. The same object until that changes."""
        return self._operators

    def member(self, identity: str) -> MemberRecord | None:
        """The record of the member with this SPIFFE ID; None: there is none."""
        return self._members.get(identity)

    def is_revoked(self, serial: int) -> bool:
        """Whether the certificate with this serial number has been revoked."""
        return serial in self._known.expiry

    def is_session_closed(self, session: str) -> bool:
        """Whether the session of an operator with this id has been closed."""
        return session in self._known.closed_sessions

    def age(self) -> float:
        """Seconds since this was last up to date; infinite when it never was."""
        return self._clock() - self._updated

    # --- The feed ---------------------------------------------------------------------------------------------------

    def apply(self, update: CallersUpdate, roots: Sequence[x509.Certificate]) -> None:
        """Verify and apply an update.

        `roots` are those of the control hierarchy. Raises `keyreeve.errors.CallersRefused`, and changes nothing then.
        """
        signer = self._check(update, roots)
        state = self._continued(update)
        self._signer = signer
        state.take(update)
        whole = update.seq == update.head_seq
        if state is not self._known:
            self._snapshot = None if whole else state
            if not whole:
                return
            if state.restore_generation == self._known.restore_generation:
                # A new snapshot of the same generation does not undo revocations, nor open sessions again.
                state.expiry = self._known.expiry | state.expiry
                state.closed_sessions = self._known.closed_sessions | state.closed_sessions
            self._known = state
        if whole:
            self._updated = self._clock()
        if update.authorities or update.operators or update.members or update.after_seq != update.seq:
            ended, known = self._now() - SKEW, self._known
            known.expiry = {serial: end for serial, end in known.expiry.items() if end >= ended}
            known.closed_sessions = {one: end for one, end in known.closed_sessions.items() if end >= ended}
            self._derive()
            self._unsaved = True

    def saving(self) -> Callable[[], None] | None:
        """Return a function that writes the present state to the file, in any thread.

        None while that is not needed.

        The function raises `OSError`. A file that is out of date makes the first delta after a restart longer.
        """
        due = self._unsaved or self._updated - self._saved >= _SAVE_SECONDS
        if self._path is None or not due or self._updated == float("-inf"):
            return None
        path, kept = self._path, _to_json(self.trust_domain, self._known, self._now() - self.age())
        self._saved, self._unsaved = self._updated, False
        return lambda: write_atomically(path, json.dumps(kept).encode(), mode=PRIVATE)

    def _continued(self, update: CallersUpdate) -> _State:
        """Return the state that the update continues, which may be a new one."""
        begins = (update.restore_generation, update.after_seq)
        known = self.position
        if update.restore_generation < known[0] or not update.after_seq <= update.seq <= update.head_seq:
            raise CallersRefused(f"an update {begins} to {update.seq} of {update.head_seq} cannot follow {known}")
        for one in update.authorities:
            _certificate(one)
        if update.after_seq == 0:
            return _State(update.restore_generation)
        if self._snapshot is not None and begins == (self._snapshot.restore_generation, self._snapshot.seq):
            return self._snapshot
        if begins == known:
            return self._known
        raise CallersRefused(f"an update begins at {begins}, and {known} is known")

    def _derive(self) -> None:
        """Compute the properties, keeping the objects that have not changed."""
        issuers = tuple(
            _certificate(one) for _, one in sorted(self._known.authorities.items()) if one.state in ACCEPTED
        )
        operators = {
            str(SpiffeId(self.trust_domain, ("operators", one.role.value, _last_part(one.name)))): one
            for one in self._known.operators.values()
        }
        self._members = {one.identity: one for one in self._known.members.values()}
        if issuers != self._issuers:
            self._issuers = issuers
        if operators != self._operators:
            self._operators = operators

    # --- Who signed it ----------------------------------------------------------------------------------------------

    def _check(self, update: CallersUpdate, roots: Sequence[x509.Certificate]) -> tuple[x509.Certificate, ...]:
        chain = self._signer
        if update.signer_der:
            try:
                chain = tuple(x509.load_der_x509_certificate(der) for der in update.signer_der)
            except ValueError:
                raise CallersRefused("the certificates of an update's signer cannot be read") from None
        if not chain:
            raise CallersRefused("the first update does not say who signed it")
        self._check_signer(chain, roots)
        if abs(update.time - self._now()) > _CLOCKS:
            raise CallersRefused(f"an update is dated {update.time - self._now():.0f} s from this machine's clock")
        key = chain[0].public_key()
        try:
            if not isinstance(key, ec.EllipticCurvePublicKey):
                raise InvalidSignature  # noqa: TRY301  # the CA service's own keys are P-256
            key.verify(update.signature, update_message(self.trust_domain, update), ec.ECDSA(hashes.SHA256()))
        except (InvalidSignature, OverflowError):
            raise CallersRefused("an update's signature is not the CA service's") from None
        return chain

    def _check_signer(self, chain: Sequence[x509.Certificate], roots: Sequence[x509.Certificate]) -> None:
        now = self._now()
        if self._path_of != (chain, roots):  # the signatures of a path are verified once: each takes 0.2 ms
            self._signer_path, self._path_of = self._path_to_root(chain, roots), (chain, roots)
        path = self._signer_path
        if any(not c.not_valid_before_utc.timestamp() <= now < c.not_valid_after_utc.timestamp() + 1 for c in path):
            raise CallersRefused("an update's signer, or an authority above it, is not valid now")
        if self.is_revoked(chain[0].serial_number) or any(
            _certificate(one) in path for one in self._known.authorities.values() if one.state is AuthorityState.REVOKED
        ):
            raise CallersRefused("an update's signer, or an authority above it, has been revoked")

    def _path_to_root(
        self, chain: Sequence[x509.Certificate], roots: Sequence[x509.Certificate]
    ) -> tuple[x509.Certificate, ...]:
        """The certificates from the signer to its root, once signatures, extensions and the signer's identity are verified."""
        path = (*chain, next((root for root in roots if root.subject == chain[-1].issuer), chain[-1]))
        try:
            for lower, upper in pairwise(path):
                lower.verify_directly_issued_by(upper)
            above = [c.extensions.get_extension_for_class(x509.BasicConstraints).value.ca for c in path[1:]]
        except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm, x509.ExtensionNotFound):
            raise CallersRefused("an update's signer does not belong to the control hierarchy") from None
        if path[-1] not in roots or not all(above):
            raise CallersRefused("an update's signer does not belong to the control hierarchy")
        identities = _identities(chain[0])
        if [(one.role, one.trust_domain) for one in identities] != [(Role.CA, self.trust_domain)]:
            raise CallersRefused(f"an update was signed by {', '.join(map(str, identities))}, not by the CA service")
        return path


def _identities(leaf: x509.Certificate) -> list[SpiffeId]:
    try:
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        return [SpiffeId.parse(uri) for uri in names.get_values_for_type(x509.UniformResourceIdentifier)]
    except (ValueError, x509.ExtensionNotFound):
        return []


def _certificate(authority: IssuingAuthority) -> x509.Certificate:
    try:
        return x509.load_der_x509_certificate(authority.certificate_der)
    except ValueError:
        raise CallersRefused(f"the certificate of {authority.name} cannot be read") from None


def _last_part(name: str) -> str:
    return name.rpartition("/")[2]


# --- The file -------------------------------------------------------------------------------------------------------


def _to_json(trust_domain: str, held: _State, heard_at: float) -> dict[str, Any]:
    return {
        "trust_domain": trust_domain,
        "restore_generation": held.restore_generation,
        "seq": held.seq,
        "heard_at": heard_at,
        "authorities": [
            [one.name, one.state.value, b64encode(one.certificate_der).decode()] for one in held.authorities.values()
        ],
        "operators": [[one.name, one.person_uid, one.role.value, one.since] for one in held.operators.values()],
        "revoked": {f"{serial:032x}": expiry for serial, expiry in held.expiry.items()},
        "members": [
            [one.member_uid, one.identity, one.array, one.state.value, one.primary] for one in held.members.values()
        ],
        "closed_sessions": held.closed_sessions,
    }


def _from_json(kept: dict[str, Any]) -> _State:
    authorities = [
        IssuingAuthority(str(name), AuthorityState(state), b64decode(der)) for name, state, der in kept["authorities"]
    ]
    for one in authorities:
        x509.load_der_x509_certificate(one.certificate_der)
    operators = [
        OperatorRecord(str(name), str(uid), OperatorRole(role), int(since))
        for name, uid, role, since in kept["operators"]
    ]
    members = [
        MemberRecord(str(uid), str(identity), str(array), MemberState(state), primary=bool(primary))
        for uid, identity, array, state, primary in kept.get("members", ())
    ]
    # A file of a release before lacks some of them: a snapshot brings them.
    whole = "members" in kept and "closed_sessions" in kept
    return _State(
        int(kept["restore_generation"]) if whole else 0,
        int(kept["seq"]) if whole else 0,
        {one.name: one for one in authorities},
        {one.person_uid: one for one in operators},
        {int(serial, 16): int(expiry) for serial, expiry in kept["revoked"].items()},
        {one.member_uid: one for one in members},
        {str(session): int(end) for session, end in kept.get("closed_sessions", {}).items()},
    )
