"""MACs for objects and launch settings, which decide which credential is sent to which server."""

from alembic import op

from keyreeve_chassis.trust_tables.tables import add_mac_columns

revision, down_revision, branch_labels, depends_on = "0008", "0007", None, None


def upgrade() -> None:
    add_mac_columns(op, "objects", "launch_settings")
