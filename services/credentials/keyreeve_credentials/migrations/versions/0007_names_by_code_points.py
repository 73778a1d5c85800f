"""Folded names of entries are ordered by code points, as on SQLite."""

import sqlalchemy as sa
from alembic import op

revision, down_revision, branch_labels, depends_on = "0007", "0006", None, None


def upgrade() -> None:
    if op.get_bind().dialect.name != "postgresql":
        return
    for name in ("owner_key", "resource_key"):
        op.alter_column("entries", name, existing_type=sa.Text(), type_=sa.Text(collation="C"), existing_nullable=False)
