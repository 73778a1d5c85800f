"""The halt switch: one row that the commit gate reads with every group."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    table = op.create_table(
        "issuance_halt",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("halted", sa.Boolean(), nullable=False),
        sa.Column("halted_at", sa.BigInteger(), nullable=True),
        sa.Column("halted_by", sa.Text(), nullable=False),
        sa.Column("halt_reason", sa.Text(), nullable=False),
        sa.Column("approved_at", sa.BigInteger(), nullable=True),
        sa.Column("approved_by", sa.Text(), nullable=False),
        sa.Column("approver", sa.Text(), nullable=False),
        sa.Column("resumed_at", sa.BigInteger(), nullable=True),
        sa.Column("resumed_by", sa.Text(), nullable=False),
        sa.Column("resume_reason", sa.Text(), nullable=False),
        sa.CheckConstraint("id = 1", name=op.f("ck_issuance_halt_single_row")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_issuance_halt")),
    )
    nothing = dict.fromkeys(("halted_by", "halt_reason", "approved_by", "approver", "resumed_by", "resume_reason"), "")
    op.bulk_insert(table, [{"id": 1, "halted": False, **nothing}])


def downgrade() -> None:
    op.drop_table("issuance_halt")
