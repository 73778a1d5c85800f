"""Enrolment tokens."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "enrolment_tokens",
        sa.Column("token_id", sa.LargeBinary(), nullable=False),
        sa.Column("identity", sa.Text(), nullable=False),
        sa.Column("creator", sa.Text(), nullable=False),
        sa.Column("root_sha256", sa.LargeBinary(), nullable=False),
        sa.Column("sealed_keys", sa.LargeBinary(), nullable=True),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("spki_sha256", sa.LargeBinary(), nullable=True),
        sa.Column("bound_at", sa.BigInteger(), nullable=True),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.Column("serial", sa.LargeBinary(), nullable=True),
        sa.CheckConstraint("state IN ('open', 'bound', 'closed', 'revoked')", name=op.f("ck_enrolment_tokens_state")),
        sa.PrimaryKeyConstraint("token_id", name=op.f("pk_enrolment_tokens")),
    )
    op.create_index(
        op.f("ix_enrolment_tokens_state_expires_at"), "enrolment_tokens", ["state", "expires_at"], unique=False
    )


def downgrade() -> None:
    op.drop_table("enrolment_tokens")
