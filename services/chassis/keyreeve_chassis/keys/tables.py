"""The table of sealed keys, for a service's own metadata."""

from sqlalchemy import Column, LargeBinary, MetaData, Table, Text


def key_table(metadata: MetaData) -> Table:
    """Define it. `sealed` is null once a key has been destroyed; the public part stays."""
    return Table(
        "keys",
        metadata,
        Column("key_id", Text, primary_key=True),
        Column("key_type", Text, nullable=False),
        Column("spki", LargeBinary, nullable=False),
        Column("sealed", LargeBinary, nullable=True),
    )
