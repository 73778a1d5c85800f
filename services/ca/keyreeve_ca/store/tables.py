"""The CA's tables (SQLAlchemy Core).

Serial numbers rise with time at the level of blocks, so the growing tables are append-only: no index of theirs takes
random insertions. Foreign keys exist only where rows are few.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    Table,
    Text,
)

from keyreeve_ca.store.metadata import metadata
from keyreeve_chassis.database.writers import writer_table
from keyreeve_chassis.idempotency.sql import request_table
from keyreeve_chassis.keys.tables import key_table
from keyreeve_chassis.leases.sql import lease_table
from keyreeve_chassis.operations.tables import operation_table
from keyreeve_chassis.trust_tables.tables import heads_table, mac_column


def _reference(target: str) -> ForeignKey:
    return ForeignKey(target, deferrable=True, initially="DEFERRED")


control_plane = Table(
    "control_plane",
    metadata,
    Column("id", Integer, CheckConstraint("id = 1", name="single_row"), primary_key=True, autoincrement=False),
    Column("trust_domain", Text, nullable=False),
    Column("restore_generation", BigInteger, nullable=False),
    Column("config_version", BigInteger, nullable=False),
    Column("last_block_id", BigInteger, nullable=False),
    Column("block_count", BigInteger, nullable=False),
    Column("key_check", LargeBinary, nullable=False),
    Column("bootstrapped_at", BigInteger, nullable=False),
)

keys = key_table(metadata)

trust_table_heads = heads_table(metadata)

authorities = Table(
    "authorities",
    metadata,
    Column("authority_id", Text, primary_key=True),
    Column("hierarchy", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("owner", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("issuer_id", Text, _reference("authorities.authority_id"), nullable=False),
    Column("key_id", Text, _reference("keys.key_id"), nullable=False),
    Column("key_type", Text, nullable=False),
    Column("certificate_der", LargeBinary, nullable=False),
    Column("spki_sha256", LargeBinary, nullable=False),
    Column("not_before", BigInteger, nullable=False),
    Column("not_after", BigInteger, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("activated_at", BigInteger, nullable=True),
    Column("retired_at", BigInteger, nullable=True),
    Column("revoked_at", BigInteger, nullable=True),
    Column("revocation_reason", Text, nullable=True),
    Column("block_count", BigInteger, nullable=False),
    # Of the last change of an issuing CA of the control hierarchy, among the numbers of `revocation_head`; else 0.
    Column("seq", BigInteger, nullable=False, server_default="0"),
    mac_column(),
    Index(None, "issuer_id"),
)

profiles = Table(
    "profiles",
    metadata,
    Column("name", Text, primary_key=True),
    Column("current_version", Integer, nullable=False),
    mac_column(),
)

profile_versions = Table(
    "profile_versions",
    metadata,
    Column("name", Text, _reference("profiles.name"), primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("sha256", LargeBinary, nullable=False),
    Column("document", Text, nullable=False),
    Column("halted", Boolean(create_constraint=False), nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("created_by", Text, nullable=False),
    mac_column(),
    Index(None, "sha256"),
)

# One row per leased block: the intention before its up to 4,096 signatures, and a summary of what came of them. A query
# by authority or validity visits only the blocks whose summary fits, so the certificates need no index for it.
serial_blocks = Table(
    "serial_blocks",
    metadata,
    Column("block_id", BigInteger, primary_key=True, autoincrement=False),
    Column("restore_generation", BigInteger, nullable=False),
    Column("authority_id", Text, nullable=False),  # no reference: a root's own block comes before the root
    Column("worker_id", Text, nullable=False),
    Column("profile_hashes", LargeBinary, nullable=False),
    Column("seed_id", Text, nullable=False),
    Column("sealed_seed", LargeBinary, nullable=False),
    Column("size", Integer, nullable=False),
    Column("crl_shard", Integer, nullable=False),
    Column("number", Integer, nullable=False),
    Column("state", Text, CheckConstraint("state IN ('open', 'closed', 'void')", name="state"), nullable=False),
    Column("committed", Integer, nullable=False),
    Column("first_not_after", BigInteger, nullable=True),
    Column("last_not_after", BigInteger, nullable=True),
    Column("leased_at", BigInteger, nullable=False),
    Index(None, "authority_id", "block_id"),
    Index(None, "state", "worker_id"),
)

workers = writer_table(metadata)

# `outcome` is null for a group that was looked up before it arrived: it can never be committed any more.
commit_groups = Table(
    "commit_groups",
    metadata,
    Column("group_id", LargeBinary, primary_key=True),
    Column("outcome", LargeBinary, nullable=True),
    Column("created_at", BigInteger, nullable=False),
    Index(None, "created_at"),
)

# The index by identity would be entered at random places. Its rows therefore begin with the number of their block, so
# that what is inserted at one time falls into one small part of it; a query visits every block once, which is a
# few milliseconds for 20 million certificates (see certificate_pages.py).
certificates = Table(
    "certificates",
    metadata,
    Column("serial", LargeBinary, primary_key=True),
    Column("authority_id", Text, nullable=False),
    Column("profile_name", Text, nullable=False),
    Column("profile_version", Integer, nullable=False),
    Column("caller", Text, nullable=False),
    Column("request_id", Text, nullable=False),
    Column("identity", Text, nullable=False),
    Column("spki_sha256", LargeBinary, nullable=False),
    Column("not_before", BigInteger, nullable=False),
    Column("not_after", BigInteger, nullable=False),
    Column("issued_at", BigInteger, nullable=False),
    Column("der", LargeBinary, nullable=False),
    Column("csr", LargeBinary, nullable=False),
    Column("requested_sans", Text, nullable=False),
    Column("requested_lifetime_seconds", BigInteger, nullable=True),
    Column("renews", LargeBinary, nullable=True),
    Column("requested_common_name", Text, nullable=True),
    Column("ignored", Text, nullable=False, server_default="[]"),
    Column("block_number", Integer, nullable=False),
    Column("identity_crc", BigInteger, nullable=False),
    Index(None, "block_number", "identity_crc"),
    Index(None, "profile_name", "issued_at"),
    postgresql_partition_by="RANGE (serial)",  # see partitions.py
)

key_bindings = Table(
    "key_bindings",
    metadata,
    Column("spki_sha256", LargeBinary, primary_key=True),
    Column("identity", Text, nullable=False),
    sqlite_with_rowid=False,
)

renewals = Table(
    "renewals",
    metadata,
    Column("predecessor", LargeBinary, primary_key=True),
    Column("successor", LargeBinary, nullable=False),
    Column("spki_sha256", LargeBinary, nullable=False),
    sqlite_with_rowid=False,
)

# A signing request has `items`, another mutation a `response`.
requests = request_table(metadata, Column("items", LargeBinary, nullable=True))

trust_metadata = Table(
    "trust_metadata",
    metadata,
    Column("role", Text, primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("body", LargeBinary, nullable=False),
)

operations = operation_table(metadata)

leases = lease_table(metadata)
