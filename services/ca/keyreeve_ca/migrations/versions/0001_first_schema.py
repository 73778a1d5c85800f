"""The CA's first schema: the plane, authorities and keys, profiles, the ledger, answered requests, trust metadata."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "certificates",
        sa.Column("serial", sa.LargeBinary(), nullable=False),
        sa.Column("authority_id", sa.Text(), nullable=False),
        sa.Column("profile_name", sa.Text(), nullable=False),
        sa.Column("profile_version", sa.Integer(), nullable=False),
        sa.Column("caller", sa.Text(), nullable=False),
        sa.Column("request_id", sa.Text(), nullable=False),
        sa.Column("identity", sa.Text(), nullable=False),
        sa.Column("spki_sha256", sa.LargeBinary(), nullable=False),
        sa.Column("not_before", sa.BigInteger(), nullable=False),
        sa.Column("not_after", sa.BigInteger(), nullable=False),
        sa.Column("issued_at", sa.BigInteger(), nullable=False),
        sa.Column("der", sa.LargeBinary(), nullable=False),
        sa.Column("csr", sa.LargeBinary(), nullable=False),
        sa.Column("wished_names", sa.Text(), nullable=False),
        sa.Column("wished_seconds", sa.BigInteger(), nullable=True),
        sa.Column("renews", sa.LargeBinary(), nullable=True),
        sa.Column("block_number", sa.Integer(), nullable=False),
        sa.Column("identity_crc", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("serial", name=op.f("pk_certificates")),
    )
    op.create_index(
        op.f("ix_certificates_block_number_identity_crc"),
        "certificates",
        ["block_number", "identity_crc"],
        unique=False,
    )
    op.create_index(
        op.f("ix_certificates_profile_name_issued_at"), "certificates", ["profile_name", "issued_at"], unique=False
    )
    op.create_table(
        "commit_groups",
        sa.Column("group_id", sa.LargeBinary(), nullable=False),
        sa.Column("outcome", sa.LargeBinary(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("group_id", name=op.f("pk_commit_groups")),
    )
    op.create_index(op.f("ix_commit_groups_created_at"), "commit_groups", ["created_at"], unique=False)
    op.create_table(
        "key_bindings",
        sa.Column("spki_sha256", sa.LargeBinary(), nullable=False),
        sa.Column("identity", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("spki_sha256", name=op.f("pk_key_bindings")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "keys",
        sa.Column("key_id", sa.Text(), nullable=False),
        sa.Column("key_type", sa.Text(), nullable=False),
        sa.Column("spki", sa.LargeBinary(), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=True),
        sa.PrimaryKeyConstraint("key_id", name=op.f("pk_keys")),
    )
    op.create_table(
        "plane",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("trust_domain", sa.Text(), nullable=False),
        sa.Column("incarnation", sa.BigInteger(), nullable=False),
        sa.Column("config_version", sa.BigInteger(), nullable=False),
        sa.Column("last_block_id", sa.BigInteger(), nullable=False),
        sa.Column("block_count", sa.BigInteger(), nullable=False),
        sa.Column("key_check", sa.LargeBinary(), nullable=False),
        sa.Column("bootstrapped_at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("id = 1", name=op.f("ck_plane_single_row")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_plane")),
    )
    op.create_table(
        "profiles",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("current_version", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_profiles")),
    )
    op.create_table(
        "renewals",
        sa.Column("predecessor", sa.LargeBinary(), nullable=False),
        sa.Column("successor", sa.LargeBinary(), nullable=False),
        sa.Column("spki_sha256", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("predecessor", name=op.f("pk_renewals")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "requests",
        sa.Column("caller", sa.Text(), nullable=False),
        sa.Column("method", sa.Text(), nullable=False),
        sa.Column("request_id", sa.Text(), nullable=False),
        sa.Column("payload_sha256", sa.LargeBinary(), nullable=False),
        sa.Column("items", sa.LargeBinary(), nullable=True),
        sa.Column("response", sa.LargeBinary(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("caller", "method", "request_id", name=op.f("pk_requests")),
    )
    op.create_index(op.f("ix_requests_created_at"), "requests", ["created_at"], unique=False)
    op.create_table(
        "trust_metadata",
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("role", "version", name=op.f("pk_trust_metadata")),
    )
    op.create_table(
        "workers",
        sa.Column("worker_id", sa.Text(), nullable=False),
        sa.Column("registered_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("worker_id", name=op.f("pk_workers")),
    )
    op.create_table(
        "authorities",
        sa.Column("authority_id", sa.Text(), nullable=False),
        sa.Column("tree", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("issuer_id", sa.Text(), nullable=False),
        sa.Column("key_id", sa.Text(), nullable=False),
        sa.Column("key_type", sa.Text(), nullable=False),
        sa.Column("certificate_der", sa.LargeBinary(), nullable=False),
        sa.Column("spki_sha256", sa.LargeBinary(), nullable=False),
        sa.Column("not_before", sa.BigInteger(), nullable=False),
        sa.Column("not_after", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("activated_at", sa.BigInteger(), nullable=True),
        sa.Column("retired_at", sa.BigInteger(), nullable=True),
        sa.Column("revoked_at", sa.BigInteger(), nullable=True),
        sa.Column("revocation_reason", sa.Text(), nullable=True),
        sa.Column("block_count", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["issuer_id"],
            ["authorities.authority_id"],
            name=op.f("fk_authorities_issuer_id"),
            initially="DEFERRED",
            deferrable=True,
        ),
        sa.ForeignKeyConstraint(
            ["key_id"], ["keys.key_id"], name=op.f("fk_authorities_key_id"), initially="DEFERRED", deferrable=True
        ),
        sa.PrimaryKeyConstraint("authority_id", name=op.f("pk_authorities")),
    )
    op.create_index(op.f("ix_authorities_issuer_id"), "authorities", ["issuer_id"], unique=False)
    op.create_table(
        "profile_versions",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("sha256", sa.LargeBinary(), nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.Column("halted", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["name"], ["profiles.name"], name=op.f("fk_profile_versions_name"), initially="DEFERRED", deferrable=True
        ),
        sa.PrimaryKeyConstraint("name", "version", name=op.f("pk_profile_versions")),
    )
    op.create_index(op.f("ix_profile_versions_sha256"), "profile_versions", ["sha256"], unique=False)
    op.create_table(
        "serial_blocks",
        sa.Column("block_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("incarnation", sa.BigInteger(), nullable=False),
        sa.Column("authority_id", sa.Text(), nullable=False),
        sa.Column("worker_id", sa.Text(), nullable=False),
        sa.Column("profile_hashes", sa.LargeBinary(), nullable=False),
        sa.Column("seed_id", sa.Text(), nullable=False),
        sa.Column("sealed_seed", sa.LargeBinary(), nullable=False),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("crl_shard", sa.Integer(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("committed", sa.Integer(), nullable=False),
        sa.Column("first_not_after", sa.BigInteger(), nullable=True),
        sa.Column("last_not_after", sa.BigInteger(), nullable=True),
        sa.Column("leased_at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("state IN ('open', 'closed', 'void')", name=op.f("ck_serial_blocks_state")),
        sa.PrimaryKeyConstraint("block_id", name=op.f("pk_serial_blocks")),
    )
    op.create_index(
        op.f("ix_serial_blocks_authority_id_block_id"), "serial_blocks", ["authority_id", "block_id"], unique=False
    )
    op.create_index(op.f("ix_serial_blocks_state_worker_id"), "serial_blocks", ["state", "worker_id"], unique=False)


def downgrade() -> None:
    for table in (
        "serial_blocks",
        "profile_versions",
        "authorities",
        "workers",
        "trust_metadata",
        "requests",
        "renewals",
        "profiles",
        "plane",
        "keys",
        "key_bindings",
        "commit_groups",
        "certificates",
    ):
        op.drop_table(table)
