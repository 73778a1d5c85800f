"""The table of blocked keys."""

from sqlalchemy import BigInteger, Column, LargeBinary, Table, Text

from keyreeve_ca.store.metadata import metadata
from keyreeve_chassis.trust_tables.tables import mac_column

blocked_keys = Table(
    "blocked_keys",
    metadata,
    Column("spki_sha256", LargeBinary, primary_key=True),
    Column("reason", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("created_by", Text, nullable=False),
    Column("approved_at", BigInteger, nullable=True),
    Column("approved_by", Text, nullable=False),
    Column("approver", Text, nullable=False),
    mac_column(),
)
