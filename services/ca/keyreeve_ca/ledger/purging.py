"""Forgetting what is kept for 24 hours: answered requests, and the outcomes of groups."""

from sqlalchemy import Connection, Table, delete, func, select

from keyreeve_ca.store.tables import commit_groups, requests


def purge(connection: Connection, before: int, limit: int) -> int:
    """Delete up to `limit` rows of each kind made before `before` (seconds since 1970); return how many went."""
    return sum(_purge(connection, table, before, limit) for table in (requests, commit_groups))


def _purge(connection: Connection, table: Table, before: int, limit: int) -> int:
    """By the index on `created_at`: cut at the time of the last row of the batch, all of that second included."""
    old = select(table.c.created_at).where(table.c.created_at < before).order_by(table.c.created_at).limit(limit)
    cut = connection.scalar(select(func.max(old.subquery().c.created_at)))
    if cut is None:
        return 0
    return connection.execute(delete(table).where(table.c.created_at <= cut)).rowcount
