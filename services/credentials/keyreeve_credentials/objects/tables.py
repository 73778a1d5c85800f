"""The table of objects. Names are stored as they were given, and folded for comparison.

A trust table: the attributes decide which credential is sent to which server.
"""

from sqlalchemy import BigInteger, Boolean, Column, PrimaryKeyConstraint, Table, Text

from keyreeve_chassis.trust_tables.tables import TrustTable, mac_column
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
    mac_column(),
    PrimaryKeyConstraint("array_id", "name_key"),
)
_DECIDING = (
    "name",
    "kind",
    "domain",
    "password_cache_usage",
    "application_kind",
    "enhanced_network_security",
    "version",
    "created_at",
    "updated_at",
)
TRUST = (TrustTable(objects, (_DECIDING,), listed=False),)
