"""The table of policies: one row for each version, never changed."""

from sqlalchemy import BigInteger, Column, Integer, Table, Text

from keyreeve_chassis.trust_tables.tables import TrustTable, mac_column
from keyreeve_credentials.store.metadata import metadata

policies = Table(
    "policies",
    metadata,
    Column("name", Text, primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("rules", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("creator", Text, nullable=False),
    mac_column(),
)

TRUST = (TrustTable(policies, (("rules", "created_at", "creator"),)),)
"""A database administrator cannot grant themselves access."""
