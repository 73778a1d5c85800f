"""The lives of keys, the seal switch, MACs for the tables that decide, and what resolution reads of entries."""

import sqlalchemy as sa
from alembic import op

from keyreeve_chassis.trust_tables.tables import create_heads_table

revision, down_revision, branch_labels, depends_on = "0004", "0003", None, None


def upgrade() -> None:
    create_heads_table(op)
    for name in ("drained_at", "destroy_at", "asked_at"):
        op.add_column("keks", sa.Column(name, sa.BigInteger(), nullable=True))
    for name in ("asked_by", "asked_person"):
        op.add_column("keks", sa.Column(name, sa.Text(), nullable=False, server_default=""))
    op.add_column("keks", sa.Column("mac", sa.LargeBinary(), nullable=True))
    with op.batch_alter_table("policies") as policies:
        policies.alter_column("mac", existing_type=sa.LargeBinary(), nullable=True)
    op.create_table(
        "vault_seal",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("sealed", sa.Boolean(create_constraint=False), nullable=False),
        sa.Column("changed_at", sa.BigInteger(), nullable=False),
        sa.Column("changed_by", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("mac", sa.LargeBinary(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_vault_seal")),
        sa.CheckConstraint("id = 1", name=op.f("ck_vault_seal_single_row")),
    )
    op.add_column("entries", sa.Column("domain", sa.Text(), nullable=False, server_default=""))
    op.add_column("entries", sa.Column("used_at", sa.BigInteger(), nullable=False, server_default="0"))
