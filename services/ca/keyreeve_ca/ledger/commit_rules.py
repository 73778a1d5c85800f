"""The rules for a group that is committed: the gate that lets it into the ledger, and conflicts between its requests.

The gate is what must hold when a group enters, and the locks that keep it true until it is in. On SQLite the one writer's
transaction suffices. On PostgreSQL a group's commit locks for share (control plane, halt switch, authority, profiles) and
its block for update; halting, retiring and voiding lock for update. Row locks alone let share lockers overlap forever while
an update waits, so both sides take an advisory lock first, which is granted in order of arrival. A process that stops in
the middle of a commit (frozen, or cut off) would hold that lock against a halt: after a second its transaction is ended
from outside, and it finds out when it wakes.

Blocked keys and ended enrollment tokens refuse their own certificates only. Conflicts are repeated requests, reused keys,
certificates renewed twice. `Steps` is what differs between the databases: each step inserts new rows and reports how many
were new; only when some were not is the database asked which. Rows go in sorted by key, so that two concurrent transactions
wait for each other in one order and cannot deadlock.
"""

import zlib
from collections.abc import Collection, Sequence
from typing import NamedTuple, Protocol

import psycopg
from sqlalchemy import Connection, text
from sqlalchemy.exc import OperationalError

from keyreeve.audit import record as records
from keyreeve.errors import StoreUnavailable, from_reason
from keyreeve.values import AuthorityState
from keyreeve_ca.enrollment.ports import TokenState
from keyreeve_ca.ledger.ports import MAX_UNCOMMITTED
from keyreeve_ca.ledger.wire import (
    ANSWERED,
    AUTHORITY,
    BINDS_KEY,
    COMMITTED,
    IDENTITY,
    PROFILE,
    RENEWS,
    SERIAL,
    SPKI,
    CertificateTuple,
    FailureTuple,
    GroupTuple,
    Outcome,
    RequestTuple,
    Result,
    is_certificate,
    pack,
    unpack,
)
from keyreeve_ca.profiles.profile import PEER_CHECK

HASH_BYTES = 32
ADVISORY_KEY = zlib.crc32(b"keyreeve ca commit gate")
_LEADING_01 = 1 << 46
_PATIENCE_MS = 1_000
_LOCK = text("SELECT pg_advisory_xact_lock(:key)").bindparams(key=ADVISORY_KEY)
_END_WHO_STOPPED = text(
    "SELECT pg_terminate_backend(l.pid) FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid"
    " WHERE l.locktype = 'advisory' AND l.classid::bigint = 0 AND l.objid::bigint = :key AND l.objsubid = 1 AND l.granted"
    " AND a.datname = current_database() AND a.wait_event_type = 'Client'"  # idle in a transaction, or in a COPY
    " AND a.state_change < clock_timestamp() - interval '900 milliseconds'"
).bindparams(key=ADVISORY_KEY)


class GateFacts(NamedTuple):
    """What the gate reads, in the order of its SELECT; None where no such row exists."""

    restore_generation: int
    halted: bool
    authority_state: str | None
    block_restore_generation: int | None
    block_authority: str | None
    block_worker: str | None
    block_state: str | None
    block_committed: int | None
    block_size: int | None
    block_profiles: bytes | None
    block_number: int | None


def lock_exclusively(connection: Connection) -> None:
    """Block commits until this transaction ends; waits for those in progress. Call it before any read."""
    if connection.dialect.name != "postgresql":
        return
    try:
        with connection.begin_nested():
            connection.execute(text(f"SET LOCAL lock_timeout = {_PATIENCE_MS}"))
            connection.execute(_LOCK)
    except OperationalError as failure:
        if not isinstance(failure.orig, psycopg.errors.LockNotAvailable):
            raise
        connection.execute(_END_WHO_STOPPED)  # the failed savepoint has taken its timeout with it
        connection.execute(_LOCK)
    else:
        connection.execute(text("SET LOCAL lock_timeout TO DEFAULT"))


def serial_prefix(block_id: int) -> bytes:
    """The first 6 octets of a block's serial numbers (certificates/serials.py)."""
    return (_LEADING_01 | block_id).to_bytes(6, "big")


def pack_hashes(hashes: Collection[bytes]) -> bytes:
    """Encode profile hashes for a block's row."""
    return b"".join(sorted(hashes))


def unpack_hashes(packed: bytes) -> frozenset[bytes]:
    """The inverse of `pack_hashes`."""
    return frozenset(packed[at : at + HASH_BYTES] for at in range(0, len(packed), HASH_BYTES))


def refusal(group: GroupTuple, facts: GateFacts | None, halted: Collection[bytes], committed: int | None) -> str | None:
    """Return why the group may not enter the ledger, or None.

    `committed` is the block's last committed counter.
    """
    if facts is None or not facts.restore_generation == group.restore_generation == (
        facts.block_restore_generation or group.restore_generation
    ):
        return "restore_generation"
    if facts.halted and not all(request.exempt for request in group.requests):
        return "halted"
    if facts.authority_state != AuthorityState.ACTIVE and not (
        facts.authority_state == AuthorityState.INTRODUCED and _has_checks_alone(group)
    ):
        return "authority"
    if any(h in halted for h in group.profile_hashes):
        return "profile"
    return None if _is_of_its_block(group, facts, committed) else "block"


def _has_checks_alone(group: GroupTuple) -> bool:
    """Whether an introduced authority may have signed this; its blocks pin the same profile (`blocks.lease`)."""
    return all(
        item[PROFILE] == PEER_CHECK for request in group.requests for item in request.items if is_certificate(item)
    )


def _is_of_its_block(group: GroupTuple, facts: GateFacts, committed: int | None) -> bool:
    if facts.block_state != "open" or facts.block_worker != group.worker_id:
        return False
    assert committed is not None
    assert facts.block_size is not None
    assert facts.block_profiles is not None
    if facts.block_authority != group.authority_id or not committed < group.last_counter < facts.block_size:
        return False
    if group.last_counter - committed > MAX_UNCOMMITTED:
        return False
    if not unpack_hashes(facts.block_profiles).issuperset(group.profile_hashes):
        return False
    prefix, authority_id = serial_prefix(group.block_id), group.authority_id
    return all(
        item[SERIAL][:6] == prefix and item[AUTHORITY] == authority_id
        for request in group.requests
        for item in request.items
        if is_certificate(item)
    )


_REUSED = "REQUEST_ID_REUSED"

Key = tuple[str, str, str]
"""Caller, method, request id."""


class Steps(Protocol):
    """The statements of one transaction."""

    def token_states(self, token_ids: Collection[bytes]) -> dict[bytes, tuple[str, bytes | None]]:
        """Return the state and key hash of enrollment tokens; they stay so until the transaction ends."""
        ...

    def blocked(self, spkis: Collection[bytes]) -> Collection[bytes]:
        """Return the key hashes that are blocked; no other is until the transaction ends."""
        ...

    def claim(self, rows: Sequence[tuple[str, str, str, bytes, bytes]]) -> int:
        """Insert (key, payload hash, items) where the key is new; return how many were new."""
        ...

    def claims(self, keys: Collection[Key]) -> dict[Key, tuple[bytes, bytes | None]]:
        """Return payload hash and items by key."""
        ...

    def correct(self, rows: Sequence[tuple[Key, bytes | None]]) -> None:
        """Replace the items of claims made in this transaction; None withdraws the claim."""
        ...

    def bind(self, rows: Sequence[tuple[bytes, str]]) -> int:
        """Insert (key hash, identity) where the key is new; return how many were new."""
        ...

    def bound(self, spkis: Collection[bytes]) -> dict[bytes, str]:
        """Return the identity by key hash."""
        ...

    def renew(self, rows: Sequence[tuple[bytes, bytes, bytes]]) -> int:
        """Insert (predecessor, successor, key hash) where the predecessor is new; return how many were new."""
        ...

    def renewed(self, predecessors: Collection[bytes]) -> dict[bytes, tuple[bytes, bytes]]:
        """Return successor and key hash by predecessor."""
        ...

    def withdraw_renewals(self, predecessors: Collection[bytes]) -> None:
        """Delete renewals made in this transaction."""
        ...


class Settlement:
    """The outcome of each request, and the certificates that enter the ledger."""

    def __init__(self, requests: Sequence[RequestTuple], steps: Steps) -> None:
        self._requests = requests
        self._steps = steps
        self._results: list[list[Result]] = [[i[SERIAL] if is_certificate(i) else i for i in r.items] for r in requests]
        self._lost: dict[int, tuple[bytes, bytes | None]] = {}
        self._repeats: dict[int, int] = {}
        self._live: dict[bytes, tuple[int, int, CertificateTuple]] = {}
        self._changed: set[int] = set()
        self._refuse_ended_tokens()
        self._refuse_blocked_keys()
        claimed = self._claim()
        self._renew()
        self._bind()
        self._correct(claimed)

    @property
    def certificates(self) -> list[CertificateTuple]:
        """The certificates to insert, in the order in which they were signed."""
        return [certificate for _, _, certificate in self._live.values()]

    def outcomes(self) -> list[Outcome]:
        """One outcome per request, in order."""
        return [self._outcome(n) for n in range(len(self._requests))]

    def _outcome(self, n: int) -> Outcome:
        if n in self._lost:
            payload_sha256, items = self._lost[n]
            return (ANSWERED, payload_sha256, () if items is None else unpack(items))
        first = self._repeats.get(n)
        if first is not None:
            if first in self._lost:
                return self._outcome(first)
            return (ANSWERED, self._requests[first].payload_sha256, tuple(self._results[first]))
        return (COMMITTED, tuple(self._results[n]))

    def _refuse_ended_tokens(self) -> None:
        """Refuse requests whose enrollment token is not bound to their key now, whatever it was when they began."""
        enrolling = {n: r for n, r in enumerate(self._requests) if r.token_id}
        if not enrolling:
            return
        states = self._steps.token_states({request.token_id for request in enrolling.values()})
        for n, request in enrolling.items():
            state, spki_sha256 = states.get(request.token_id, (TokenState.REVOKED, None))
            for at, item in enumerate(request.items):
                if is_certificate(item) and (state != TokenState.BOUND or spki_sha256 != item[SPKI]):
                    self._results[n][at] = _token_ended(request.token_id, state)

    def _refuse_blocked_keys(self) -> None:
        """Refuse certificates whose keys are blocked now, whatever was known when they were signed."""
        spkis = {item[SPKI] for request in self._requests for item in request.items if is_certificate(item)}
        if not (blocked := self._steps.blocked(spkis)):
            return
        for n, request in enumerate(self._requests):
            for at, item in enumerate(request.items):
                if is_certificate(item) and item[SPKI] in blocked:
                    self._results[n][at] = _key_blocked(item)

    def _claim(self) -> dict[Key, int]:
        """Claim the requests that have a certificate, the first of each id; return those that won."""
        first: dict[Key, int] = {}
        rows: dict[Key, tuple[str, str, str, bytes, bytes]] = {}
        for n, request in enumerate(self._requests):
            if not any(isinstance(result, bytes) for result in self._results[n]):
                continue
            key = request.key
            if key in first:
                self._repeats[n] = first[key]
                continue
            first[key] = n
            rows[key] = (*key, request.payload_sha256, pack(self._results[n]))
        if rows and self._steps.claim(sorted(rows.values())) != len(rows):
            found = self._steps.claims(rows)
            for key, row in rows.items():
                if key not in found:
                    raise StoreUnavailable("an answered request was purged while it was being repeated")
                # Serial numbers are unique, so equal items mean that the claim is this one.
                if found[key][1] != row[4]:
                    self._lost[first.pop(key)] = found[key]
        for n in first.values():
            for at, item in enumerate(self._requests[n].items):
                if is_certificate(item) and isinstance(self._results[n][at], bytes):
                    self._live[item[SERIAL]] = (n, at, item)
        return first

    def _renew(self) -> None:
        wanted: dict[bytes, tuple[bytes, bytes, bytes]] = {}
        for _, _, certificate in self._live.values():
            if certificate[RENEWS] is not None:
                row = (certificate[RENEWS], certificate[SERIAL], certificate[SPKI])
                wanted.setdefault(certificate[RENEWS], row)
        if not wanted:
            return
        successors = {predecessor: (row[1], row[2]) for predecessor, row in wanted.items()}
        if self._steps.renew(sorted(wanted.values())) != len(wanted):
            successors |= self._steps.renewed(wanted)
        for serial, (_, _, certificate) in list(self._live.items()):
            if certificate[RENEWS] is None:
                continue
            successor, spki = successors[certificate[RENEWS]]
            if successor == serial:
                continue
            # The same key has its renewal already: that is the answer, and this certificate is thrown away.
            self._drop(serial, successor if spki == certificate[SPKI] else _superseded(certificate))

    def _bind(self) -> None:
        wanted: dict[bytes, str] = {}
        for _, _, certificate in self._live.values():
            if certificate[BINDS_KEY]:
                wanted.setdefault(certificate[SPKI], certificate[IDENTITY])
        if not wanted:
            return
        owners = wanted
        if self._steps.bind(sorted(wanted.items())) != len(wanted):
            owners = self._steps.bound(wanted)
        refused: dict[bytes, CertificateTuple] = {
            serial: certificate
            for serial, (_, _, certificate) in self._live.items()
            if certificate[BINDS_KEY] and owners[certificate[SPKI]] != certificate[IDENTITY]
        }
        for serial, certificate in refused.items():
            self._drop(serial, _key_reused(certificate))
        withdrawn = [c[RENEWS] for c in refused.values() if c[RENEWS] is not None]
        if withdrawn:
            self._steps.withdraw_renewals(withdrawn)
        # An item of this group that was to answer with a serial number refused just now is refused for the same reason.
        for n, results in enumerate(self._results):
            for at, result in enumerate(results):
                if isinstance(result, bytes) and result in refused:
                    self._results[n][at] = _key_reused(refused[result])
                    self._changed.add(n)

    def _drop(self, serial: bytes, result: Result) -> None:
        n, at, _ = self._live.pop(serial)
        self._results[n][at] = result
        self._changed.add(n)

    def _correct(self, claimed: dict[Key, int]) -> None:
        """Store the changed results, and withdraw claims with no certificate left."""
        if not self._changed:
            return
        self._steps.correct(
            [
                (key, pack(self._results[n]) if any(isinstance(r, bytes) for r in self._results[n]) else None)
                for key, n in claimed.items()
                if n in self._changed
            ]
        )


def _token_ended(token_id: bytes, state: str) -> FailureTuple:
    reason = "TOKEN_REVOKED" if state == TokenState.REVOKED else "TOKEN_USED"
    return (reason, "the enrollment token ended while its certificate was being issued", {"token": token_id.hex()})


def _key_blocked(certificate: CertificateTuple) -> FailureTuple:
    return ("KEY_BLOCKED", "the key is blocked as compromised", {"spki_sha256": certificate[SPKI].hex()})


def _key_reused(certificate: CertificateTuple) -> FailureTuple:
    return (
        "KEY_REUSED",
        "another identity holds a certificate for this key, and the profile binds a key to one identity",
        {"spki_sha256": certificate[SPKI].hex()},
    )


def _superseded(certificate: CertificateTuple) -> FailureTuple:
    return (
        "RENEWAL_SUPERSEDED",
        "the certificate has been renewed for another key",
        {"serial": certificate[RENEWS].hex()},
    )


def records_of(requests: Sequence[RequestTuple], outcomes: Sequence[Outcome], now: int) -> list[bytes]:
    """One audit record per request.

    `now`, in milliseconds since 1970, is the time of requests that no RPC brought.
    """
    return [
        (request.audit or _own_head(request, now)) + _tail(request, outcome)
        for request, outcome in zip(requests, outcomes, strict=True)
    ]


def _own_head(request: RequestTuple, now: int) -> bytes:
    made = records.prefix(request.method, request.caller, "", subject="", peer="", tls="")
    return records.head(made, now, request.request_id, "", ())


def _tail(request: RequestTuple, outcome: Outcome) -> bytes:
    results = outcome[-1]
    if outcome[0] == ANSWERED and outcome[1] != request.payload_sha256:
        return _failed(_REUSED)
    if not request.batch and len(results) == 1 and not isinstance(results[0], bytes):
        return _failed(results[0][0])
    told = [
        ("certificate", result.hex()) if isinstance(result, bytes) else (f"items[{at}]", result[0])
        for at, result in enumerate(results)
    ]
    if outcome[0] == ANSWERED:
        told.append(("answer", "repeated"))
    return records.tail("OK", "", told)


def _failed(reason: str) -> bytes:
    return records.tail(from_reason(reason, "").code, reason)
