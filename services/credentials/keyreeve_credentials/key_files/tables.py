"""The tables of files and of their assignments."""

from sqlalchemy import BigInteger, Boolean, Column, Index, LargeBinary, PrimaryKeyConstraint, Table, Text

from keyreeve_credentials.store.metadata import metadata

key_files = Table(
    "key_files",
    metadata,
    Column("file_uid", Text, primary_key=True),
    Column("array_id", Text, nullable=False),
    Column("server", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("holds_private_key", Boolean, nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("encryption", BigInteger, nullable=False),
    Column("kek_id", Text, nullable=False),
    Column("wrapped_key", LargeBinary, nullable=False),
    Column("sealed_contents", LargeBinary, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    Index("uq_key_files_place", "array_id", "server", "name", unique=True),
    # For re-keying: the rows of one key, in order.
    Index(None, "kek_id", "file_uid"),
)
key_file_uses = Table(
    "key_file_uses",
    metadata,
    Column("array_id", Text, nullable=False),
    Column("server", Text, nullable=False),
    Column("service", Text, nullable=False),
    Column("name", Text, nullable=False),
    PrimaryKeyConstraint("array_id", "server", "service", "name"),
)
