"""Arrays, members, rotations and epochs become trust tables."""

from alembic import op

from keyreeve_chassis.trust_tables.tables import add_mac_columns, create_heads_table

revision, down_revision, branch_labels, depends_on = "0004", "0003", None, None


def upgrade() -> None:
    create_heads_table(op)
    add_mac_columns(op, "arrays", "members", "rotations", "epochs")
