"""Orders of the membership service, and members' records, which the caller feed carries."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "array_orders",
        sa.Column("array", sa.Text(), nullable=False),
        sa.Column("rotation", sa.BigInteger(), nullable=False),
        sa.Column("step", sa.Integer(), nullable=False),
        sa.Column("fence", sa.BigInteger(), nullable=False),
        sa.Column("owner_nonce", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("array", name=op.f("pk_array_orders")),
    )
    op.create_table(
        "members",
        sa.Column("member_uid", sa.Text(), nullable=False),
        sa.Column("identity", sa.Text(), nullable=False),
        sa.Column("array", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("primary_member", sa.Boolean(), nullable=False),
        sa.Column("removed", sa.Boolean(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("member_uid", name=op.f("pk_members")),
    )
    op.create_index(op.f("ix_members_identity"), "members", ["identity"], unique=False)
    op.create_index(op.f("ix_members_seq"), "members", ["seq"], unique=False)


def downgrade() -> None:
    op.drop_table("members")
    op.drop_table("array_orders")
