"""The table of objects. Names are stored as they were given, and folded for comparison."""

from sqlalchemy import BigInteger, Boolean, Column, PrimaryKeyConstraint, Table, Text

from keyreeve_credentials.store.metadata import metadata

objects = Table(
    "objects",
    metadata,
    Column("array_id", Text, nullable=False),
    Column("name_key", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("domain", Text, nullable=False),
    Column("password_cache_usage", Text, nullable=False),
    Column("application_kind", Text, nullable=False),
    Column("enhanced_network_security", Boolean, nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    PrimaryKeyConstraint("array_id", "name_key"),
)
