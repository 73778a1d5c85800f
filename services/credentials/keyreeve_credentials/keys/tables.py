"""The table of key-encryption keys: their states. The keys themselves are in the root provider."""

from sqlalchemy import BigInteger, CheckConstraint, Column, Index, Integer, Table, Text, text

from keyreeve_credentials.store.metadata import metadata

keks = Table(
    "keks",
    metadata,
    Column("kek_id", Text, primary_key=True),
    Column("array_id", Text, nullable=False),
    Column("number", Integer, nullable=False),
    Column(
        "state",
        Text,
        CheckConstraint("state IN ('writer', 'draining', 'destroying', 'destroyed')", name="state"),
        nullable=False,
    ),
    Column("wraps", BigInteger, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("changed_at", BigInteger, nullable=False),
    Index("uq_keks_array_id_number", "array_id", "number", unique=True),
    # One writer for each array, whatever two replicas do at the same time.
    Index(
        "uq_keks_writer",
        "array_id",
        unique=True,
        sqlite_where=text("state = 'writer'"),
        postgresql_where=text("state = 'writer'"),
    ),
)
