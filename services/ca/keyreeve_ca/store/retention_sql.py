"""`retention.Purging` on both databases.

A block's `first_not_after` tells what is left in it, so no index is needed; the deleting transaction advances it.
"""

import zlib
from collections.abc import Sequence

from sqlalchemy import Connection, delete, func, or_, select, text, update

from keyreeve.session_values import SessionMethod
from keyreeve_ca.ledger.commit_rules import serial_prefix
from keyreeve_ca.operators.tables import operator_keys
from keyreeve_ca.revocation.tables import revocations
from keyreeve_ca.sessions.tables import operator_sessions
from keyreeve_ca.store.tables import certificates, renewals, requests, serial_blocks
from keyreeve_chassis.trust_tables.sql import SqlTrust

LOCK = zlib.crc32(b"keyreeve ca retention")


def expired_block(connection: Connection, before: int, first: int) -> int | None:
    """The first block at or after `first` with a certificate that expired before then."""
    c = serial_blocks.c
    query = select(c.block_id).where(c.block_id >= first, c.first_not_after < before).order_by(c.block_id).limit(1)
    found: int | None = connection.scalar(query)
    return found


def purge_certificates(connection: Connection, trust: SqlTrust, block_id: int, before: int, limit: int) -> int | None:
    """Delete up to `limit` of a block's expired certificates; None when another process is working on it."""
    if not _leads(connection):
        return None
    c = certificates.c
    # A group that is being committed holds this row, so nothing enters the block meanwhile.
    locked = select(serial_blocks.c.block_id).where(serial_blocks.c.block_id == block_id)
    connection.execute(locked.with_for_update(key_share=True))
    in_block = (c.serial > serial_prefix(block_id), c.serial < serial_prefix(block_id + 1))
    # An answered request names certificates made no later than itself: as long as it is repeated, they are there.
    oldest_request = connection.scalar(select(func.min(requests.c.created_at)))
    if oldest_request is not None:
        before = min(before, oldest_request)
    query = select(c.serial).where(*in_block, c.not_after < before).order_by(c.serial).limit(limit)
    serials = connection.scalars(query).all()
    if serials:
        trust.rows(revocations).delete(revocations.c.serial.in_(serials))
        for column in (renewals.c.predecessor, c.serial):
            connection.execute(delete(column.table).where(column.in_(serials)))
    if len(serials) < limit:
        left = select(func.min(c.not_after)).where(*in_block).scalar_subquery()
        connection.execute(
            update(serial_blocks).where(serial_blocks.c.block_id == block_id).values(first_not_after=left)
        )
    trust.complete()
    return len(serials)


def ended_sessions(connection: Connection, before: int, limit: int) -> Sequence[str]:
    """Ids of sessions that ended before then. Those opened with an SSH key stay for as long as the key is registered.

    Other proofs expire: a certificate's after a minute, an SSH certificate within a day.
    """
    c = operator_sessions.c
    registered = select(operator_keys.c.fingerprint).where(operator_keys.c.fingerprint == c.credential).exists()
    over = c.ends_at < before, or_(c.method != SessionMethod.SSH_KEY.value, ~registered)
    return connection.scalars(select(c.session_id).where(*over).order_by(c.ends_at).limit(limit)).all()


def purge_sessions(connection: Connection, trust: SqlTrust, session_ids: Sequence[str]) -> int | None:
    """Delete sessions; None when another process is working on it."""
    if not _leads(connection):
        return None
    deleted = trust.rows(operator_sessions).delete(operator_sessions.c.session_id.in_(session_ids))
    trust.complete()
    return deleted


def _leads(connection: Connection) -> bool:
    if connection.dialect.name != "postgresql":
        return True  # the one writer
    return bool(connection.scalar(text("SELECT pg_try_advisory_xact_lock(:key)"), {"key": LOCK}))
