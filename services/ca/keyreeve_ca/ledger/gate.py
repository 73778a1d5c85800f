"""The commit gate: what must hold when a group enters the ledger, and the locks that keep it true until it is in.

On SQLite the one writer's transaction suffices. On PostgreSQL a group's commit locks for share (control plane, halt switch,
authority, profiles) and its block for update; halting, retiring and voiding lock for update. Row locks alone let
share lockers overlap forever while an update waits, so both sides take an advisory lock first, which is granted in order
of arrival. A process that stops in the middle of a commit (frozen, or cut off) would hold that lock against a halt: after a
second its transaction is ended from outside, and it finds out when it wakes.
"""

import zlib
from collections.abc import Collection
from typing import NamedTuple

import psycopg
from sqlalchemy import Connection, text
from sqlalchemy.exc import OperationalError

from keyreeve_ca.ledger.encoding import AUTHORITY, SERIAL, GroupTuple, is_certificate
from keyreeve_ca.ledger.ports import MAX_UNCOMMITTED
from keyreeve_ca.store.ports import AuthorityState

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
    if facts.authority_state != AuthorityState.ACTIVE:
        return "authority"
    if any(h in halted for h in group.profile_hashes):
        return "profile"
    return None if _is_of_its_block(group, facts, committed) else "block"


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
