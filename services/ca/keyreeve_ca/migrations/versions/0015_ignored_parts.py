"""The ledger keeps the requested CN, and which parts of a request its certificate does not have."""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Neither rewrites the table: PostgreSQL and SQLite keep a constant default beside it.
    known = True if op.get_bind().dialect.name == "postgresql" else None
    op.add_column("certificates", sa.Column("requested_common_name", sa.Text(), nullable=True), if_not_exists=known)
    op.add_column(
        "certificates", sa.Column("ignored", sa.Text(), nullable=False, server_default="[]"), if_not_exists=known
    )


def downgrade() -> None:
    op.drop_column("certificates", "ignored")
    op.drop_column("certificates", "requested_common_name")
