"""Starts of members, and requests for new keys."""

import sqlalchemy as sa
from alembic import op

revision, down_revision, branch_labels, depends_on = "0006", "0005", None, None


def upgrade() -> None:
    op.create_table(
        "member_boots",
        sa.Column("member_uid", sa.Text(), nullable=False),
        sa.Column("array_id", sa.Text(), nullable=False),
        sa.Column("boot_id", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("member_uid", name=op.f("pk_member_boots")),
    )
    op.create_table(
        "rekey_requests",
        sa.Column("array_id", sa.Text(), nullable=False),
        sa.Column("requested_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("array_id", name=op.f("pk_rekey_requests")),
    )
