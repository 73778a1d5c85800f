"""Tables of arrays: the highest order of each, and one row per member ever recorded."""

from sqlalchemy import BigInteger, Boolean, Column, Index, Integer, Table, Text

from keyreeve_ca.store.metadata import metadata
from keyreeve_chassis.trust_tables.tables import mac_column

array_orders = Table(
    "array_orders",
    metadata,
    Column("array", Text, primary_key=True),
    Column("rotation", BigInteger, nullable=False),
    Column("step", Integer, nullable=False),
    Column("fence", BigInteger, nullable=False),
    Column("owner_nonce", Text, nullable=False),
    mac_column(),
)

members = Table(
    "members",
    metadata,
    Column("member_uid", Text, primary_key=True),
    Column("identity", Text, nullable=False),
    Column("array", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("primary_member", Boolean(create_constraint=False), nullable=False),
    Column("removed", Boolean(create_constraint=False), nullable=False),
    # Of the last change, among the numbers of `revocation_head`.
    Column("seq", BigInteger, nullable=False),
    mac_column(),
    Index(None, "identity"),
    Index(None, "seq"),
)
