"""The table of the halt switch: one row, made by its migration, which the commit gate reads with every group."""

from sqlalchemy import BigInteger, Boolean, CheckConstraint, Column, Integer, Table, Text

from keyreeve_ca.store.metadata import metadata
from keyreeve_chassis.trust_tables.tables import mac_column

issuance_halt = Table(
    "issuance_halt",
    metadata,
    Column("id", Integer, CheckConstraint("id = 1", name="single_row"), primary_key=True, autoincrement=False),
    Column("halted", Boolean(create_constraint=False), nullable=False),
    Column("halted_at", BigInteger, nullable=True),
    Column("halted_by", Text, nullable=False),
    Column("halt_reason", Text, nullable=False),
    Column("approved_at", BigInteger, nullable=True),
    Column("approved_by", Text, nullable=False),
    Column("approver", Text, nullable=False),
    Column("resumed_at", BigInteger, nullable=True),
    Column("resumed_by", Text, nullable=False),
    Column("resume_reason", Text, nullable=False),
    mac_column(),
)
