"""SSH CAs whose user certificates name operators."""

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "operator_ssh_authorities",
        sa.Column("person_uid", sa.Text(), nullable=False),
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column("line", sa.Text(), nullable=False),
        sa.Column("added_at", sa.BigInteger(), nullable=False),
        sa.Column("added_by", sa.Text(), nullable=False),
        sa.Column("mac", sa.LargeBinary(), nullable=True),
        sa.PrimaryKeyConstraint("person_uid", "fingerprint", name=op.f("pk_operator_ssh_authorities")),
    )


def downgrade() -> None:
    op.drop_table("operator_ssh_authorities")
