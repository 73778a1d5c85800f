"""The table of key-encryption keys: their states. The keys themselves are in the root provider."""

from sqlalchemy import BigInteger, Boolean, CheckConstraint, Column, Index, Integer, Table, Text, text

from keyreeve_chassis.trust_tables.tables import TrustTable, mac_column
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
    Column("drained_at", BigInteger, nullable=True),
    Column("destroy_at", BigInteger, nullable=True),
    Column("asked_at", BigInteger, nullable=True),
    Column("asked_by", Text, nullable=False, server_default=""),
    Column("asked_person", Text, nullable=False, server_default=""),
    mac_column(),
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

vault_seal = Table(
    "vault_seal",
    metadata,
    Column("id", Integer, CheckConstraint("id = 1", name="single_row"), primary_key=True, autoincrement=False),
    Column("sealed", Boolean(create_constraint=False), nullable=False),
    Column("changed_at", BigInteger, nullable=False),
    Column("changed_by", Text, nullable=False),
    Column("reason", Text, nullable=False),
    mac_column(),
)

TRUST = (
    # The number of wraps rises with every write, and decides nothing but when a new key is due.
    TrustTable(
        keks,
        (
            (
                "array_id",
                "number",
                "state",
                "created_at",
                "drained_at",
                "destroy_at",
                "asked_at",
                "asked_by",
                "asked_person",
            ),
        ),
    ),
    TrustTable(vault_seal, (("sealed", "changed_at", "changed_by", "reason"),)),
)
"""Who could change these rows could have values encrypted under a key they know, or open a sealed vault."""
