"""The table of long-running operations, for a service's own metadata."""

from sqlalchemy import BigInteger, Boolean, Column, Index, LargeBinary, MetaData, Table, Text


def operation_table(metadata: MetaData) -> Table:
    """Define it."""
    return Table(
        "operations",
        metadata,
        Column("operation_id", Text, primary_key=True),
        Column("method", Text, nullable=False),
        Column("creator", Text, nullable=False),
        Column("state", Text, nullable=False),
        Column("phase", Text, nullable=False),
        Column("arguments", Text, nullable=False),
        Column("position", LargeBinary, nullable=False),
        Column("done", BigInteger, nullable=False),
        Column("total", BigInteger, nullable=False),
        Column("created_at", BigInteger, nullable=False),
        Column("updated_at", BigInteger, nullable=False),
        Column("ended_at", BigInteger, nullable=True),
        Column("cancel_requested", Boolean(create_constraint=False), nullable=False),
        Column("error_reason", Text, nullable=False),
        Column("error_message", Text, nullable=False),
        Column("waiting", Text, nullable=False, server_default="[]"),  # JSON: a list of `ports.Waiting`
        Index(None, "state"),
    )
