"""The table of enrollment tokens. It stays small: one row per enrollment, kept for 30 days."""

from sqlalchemy import BigInteger, CheckConstraint, Column, Index, LargeBinary, Table, Text

from keyreeve_ca.store.metadata import metadata
from keyreeve_chassis.trust_tables.tables import mac_column

enrollment_tokens = Table(
    "enrollment_tokens",
    metadata,
    Column("token_id", LargeBinary, primary_key=True),
    Column("identity", Text, nullable=False),
    Column("creator", Text, nullable=False),
    Column("root_sha256", LargeBinary, nullable=False),
    Column("sealed_keys", LargeBinary, nullable=True),
    Column(
        "state",
        Text,
        CheckConstraint("state IN ('open', 'bound', 'closed', 'revoked')", name="state"),
        nullable=False,
    ),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    Column("spki_sha256", LargeBinary, nullable=True),
    Column("bound_at", BigInteger, nullable=True),
    Column("ended_at", BigInteger, nullable=True),
    Column("serial", LargeBinary, nullable=True),
    mac_column(),
    Index(None, "state", "expires_at"),
)
