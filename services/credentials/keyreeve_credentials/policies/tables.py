"""The table of policies: one row for each version, never changed."""

from sqlalchemy import BigInteger, Column, Integer, LargeBinary, Table, Text

from keyreeve_credentials.store.metadata import metadata

policies = Table(
    "policies",
    metadata,
    Column("name", Text, primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("rules", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("creator", Text, nullable=False),
    # Over the row, under a key that is not in the database: a database administrator cannot grant themselves access.
    Column("mac", LargeBinary, nullable=False),
)
