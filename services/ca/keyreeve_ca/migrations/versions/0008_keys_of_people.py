"""Public keys of people."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "person_keys",
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column("person_uid", sa.Text(), nullable=False),
        sa.Column("line", sa.Text(), nullable=False),
        sa.Column("added_at", sa.BigInteger(), nullable=False),
        sa.Column("added_by", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("fingerprint", name=op.f("pk_person_keys")),
    )
    op.create_index(op.f("ix_person_keys_person_uid"), "person_keys", ["person_uid"], unique=False)


def downgrade() -> None:
    op.drop_table("person_keys")
