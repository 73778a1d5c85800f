"""The table of launch settings: one row for each setting that was set. A trust table, as that of objects."""

from sqlalchemy import Column, PrimaryKeyConstraint, Table, Text

from keyreeve_chassis.trust_tables.tables import TrustTable, mac_column
from keyreeve_credentials.store.metadata import metadata

launch_settings = Table(
    "launch_settings",
    metadata,
    Column("array_id", Text, nullable=False),
    Column("server", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("value", Text, nullable=False),
    mac_column(),
    PrimaryKeyConstraint("array_id", "server", "name"),
)
TRUST = (TrustTable(launch_settings, (("value",),), listed=False),)
