"""Tables of revocations and CRLs."""

from sqlalchemy import BigInteger, CheckConstraint, Column, Index, Integer, LargeBinary, Table, Text

from keyreeve_ca.store.metadata import metadata
from keyreeve_chassis.trust_tables.tables import mac_column

# The number of the last change that followers of callers or lists hear of: a revocation, a block's phantoms, a change of
# an operator's record or of an issuing CA of the control hierarchy. Its row is locked from the assignment to the commit.
revocation_head = Table(
    "revocation_head",
    metadata,
    Column("id", Integer, CheckConstraint("id = 1", name="single_row"), primary_key=True, autoincrement=False),
    Column("last_seq", BigInteger, nullable=False),
)

revocations = Table(
    "revocations",
    metadata,
    Column("serial", LargeBinary, primary_key=True),
    Column("seq", BigInteger, nullable=False),
    Column("authority_id", Text, nullable=False),
    Column("crl_shard", Integer, nullable=False),
    Column("reason", Text, nullable=False),
    Column("revoked_at", BigInteger, nullable=False),
    Column("actor", Text, nullable=False),
    Column("not_after", BigInteger, nullable=False),
    mac_column(),
    Index(None, "seq", unique=True),
    Index(None, "authority_id", "crl_shard", "seq"),
)

# What may have been signed in a block whose worker is gone, and was never stored: counters `first` to `last`.
phantom_blocks = Table(
    "phantom_blocks",
    metadata,
    Column("block_id", BigInteger, primary_key=True, autoincrement=False),
    Column("seq", BigInteger, nullable=False),
    Column("authority_id", Text, nullable=False),
    Column("crl_shard", Integer, nullable=False),
    Column("first_counter", Integer, nullable=False),
    Column("last_counter", Integer, nullable=False),
    Column("noticed_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    Index(None, "authority_id", "crl_shard", "seq"),
)

# `number` is reserved (and durable) before the list that bears it is made; the rest is of the newest list there is.
revocation_lists = Table(
    "revocation_lists",
    metadata,
    Column("authority_id", Text, primary_key=True),
    Column("crl_shard", Integer, primary_key=True, autoincrement=False),
    Column("number", BigInteger, nullable=False),
    Column("published", BigInteger, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("this_update", BigInteger, nullable=False),
    Column("next_update", BigInteger, nullable=False),
    Column("entries", Integer, nullable=False),
    Column("der", LargeBinary, nullable=True),
)
