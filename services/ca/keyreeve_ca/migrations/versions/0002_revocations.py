"""Revoked certificates, what crashed workers may have signed, and the lists of both."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    head = op.create_table(
        "revocation_head",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("last_seq", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("id = 1", name=op.f("ck_revocation_head_single_row")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_revocation_head")),
    )
    op.bulk_insert(head, [{"id": 1, "last_seq": 0}])
    op.create_table(
        "revocations",
        sa.Column("serial", sa.LargeBinary(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("authority_id", sa.Text(), nullable=False),
        sa.Column("crl_shard", sa.Integer(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("revoked_at", sa.BigInteger(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("not_after", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("serial", name=op.f("pk_revocations")),
    )
    op.create_index(op.f("ix_revocations_seq"), "revocations", ["seq"], unique=True)
    op.create_index(
        op.f("ix_revocations_authority_id_crl_shard_seq"),
        "revocations",
        ["authority_id", "crl_shard", "seq"],
        unique=False,
    )
    op.create_table(
        "phantom_blocks",
        sa.Column("block_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("authority_id", sa.Text(), nullable=False),
        sa.Column("crl_shard", sa.Integer(), nullable=False),
        sa.Column("first_counter", sa.Integer(), nullable=False),
        sa.Column("last_counter", sa.Integer(), nullable=False),
        sa.Column("noticed_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("block_id", name=op.f("pk_phantom_blocks")),
    )
    op.create_index(
        op.f("ix_phantom_blocks_authority_id_crl_shard_seq"),
        "phantom_blocks",
        ["authority_id", "crl_shard", "seq"],
        unique=False,
    )
    op.create_table(
        "revocation_lists",
        sa.Column("authority_id", sa.Text(), nullable=False),
        sa.Column("crl_shard", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("published", sa.BigInteger(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("this_update", sa.BigInteger(), nullable=False),
        sa.Column("next_update", sa.BigInteger(), nullable=False),
        sa.Column("entries", sa.Integer(), nullable=False),
        sa.Column("der", sa.LargeBinary(), nullable=True),
        sa.PrimaryKeyConstraint("authority_id", "crl_shard", name=op.f("pk_revocation_lists")),
    )


def downgrade() -> None:
    for table in ("revocation_lists", "phantom_blocks", "revocations", "revocation_head"):
        op.drop_table(table)
