"""The table of entries. Names are stored as they were given, and folded for comparison."""

from sqlalchemy import BigInteger, Column, Index, LargeBinary, Table, Text

from keyreeve_credentials.store.metadata import metadata

FOLDED = Text().with_variant(Text(collation="C"), "postgresql")
"""Ordered by code points on both databases, so that a beginning of a name is a range of the index."""

entries = Table(
    "entries",
    metadata,
    Column("entry_uid", Text, primary_key=True),
    Column("array_id", Text, nullable=False),
    Column("owner", Text, nullable=False),
    Column("owner_key", FOLDED, nullable=False),
    Column("resource", Text, nullable=False),
    Column("resource_key", FOLDED, nullable=False),
    Column("user_name", Text, nullable=False),
    Column("user_name_key", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("encryption", BigInteger, nullable=False),
    Column("kek_id", Text, nullable=False),
    Column("wrapped_key", LargeBinary, nullable=False),
    Column("sealed_user_name", LargeBinary, nullable=False),
    Column("sealed_secret", LargeBinary, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    # The Windows domain that a login password was cached with.
    Column("domain", Text, nullable=False, server_default=""),
    Column("used_at", BigInteger, nullable=False, server_default="0"),
    Index("uq_entries_place", "array_id", "owner_key", "resource_key", unique=True),
    Index(None, "array_id", "resource_key", "owner_key"),
    # For re-keying: the rows of one key, in order.
    Index(None, "kek_id", "entry_uid"),
)
