"""Deletes what is kept for 24 hours: stored answers, and the outcomes of groups."""

from sqlalchemy import Connection, Table, delete, func, select

from keyreeve_ca.store.tables import commit_groups, requests


def purge(connection: Connection, before: int, limit: int) -> int:
    """Delete up to `limit` rows of each kind older than `before` (seconds since 1970); return how many."""
    return sum(_purge(connection, table, before, limit) for table in (requests, commit_groups))


def _purge(connection: Connection, table: Table, before: int, limit: int) -> int:
    """Delete by the index on `created_at`, up to and including the second of the batch's last row."""
    old = select(table.c.created_at).where(table.c.created_at < before).order_by(table.c.created_at).limit(limit)
    cut = connection.scalar(select(func.max(old.subquery().c.created_at)))
    if cut is None:
        return 0
    return connection.execute(delete(table).where(table.c.created_at <= cut)).rowcount
