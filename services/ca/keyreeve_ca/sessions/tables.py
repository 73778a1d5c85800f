"""The table of operators' sessions: one row per session ever opened, so that no proof opens two."""

from sqlalchemy import BigInteger, Column, Index, LargeBinary, Table, Text

from keyreeve_ca.store.metadata import metadata
from keyreeve_chassis.trust_tables.tables import mac_column

operator_sessions = Table(
    "operator_sessions",
    metadata,
    Column("session_id", Text, primary_key=True),
    Column("identity", Text, nullable=False),
    Column("person_uid", Text, nullable=False),
    Column("gateway", Text, nullable=False),
    Column("method", Text, nullable=False),
    Column("credential", Text, nullable=False),
    Column("client_address", Text, nullable=False),
    # Words separated by spaces.
    Column("audiences", Text, nullable=False),
    Column("method_families", Text, nullable=False),
    Column("proof_sha256", LargeBinary, nullable=False),
    Column("opened_at", BigInteger, nullable=False),
    Column("ends_at", BigInteger, nullable=False),
    Column("closed_at", BigInteger, nullable=True),
    Column("closed_by", Text, nullable=False),
    # Of the closing, among the numbers of `revocation_head`; 0: it is open.
    Column("seq", BigInteger, nullable=False),
    mac_column(),
    Index(None, "proof_sha256", unique=True),
    Index(None, "ends_at"),
    Index(None, "seq"),
)
