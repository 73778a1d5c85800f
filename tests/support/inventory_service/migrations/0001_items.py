"""Items, and what every service has."""

import sqlalchemy as sa
from alembic import op

from keyreeve_chassis.database.service_tables import create_service_tables

revision, down_revision, branch_labels, depends_on = "0001", None, None, None


def upgrade() -> None:
    create_service_tables(op)
    op.create_table(
        "items",
        sa.Column("item_id", sa.Text(), nullable=False),
        sa.Column("creator", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("item_id", name="pk_items"),
    )
