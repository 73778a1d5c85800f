"""Objects and launch settings."""

import sqlalchemy as sa
from alembic import op

revision, down_revision, branch_labels, depends_on = "0003", "0002", None, None


def _texts(*names: str) -> list[sa.Column[str]]:
    return [sa.Column(name, sa.Text(), nullable=False) for name in names]


def upgrade() -> None:
    op.create_table(
        "objects",
        *_texts("array_id", "name_key", "name", "kind", "domain", "password_cache_usage", "application_kind"),
        sa.Column("enhanced_network_security", sa.Boolean(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("array_id", "name_key", name=op.f("pk_objects")),
    )
    op.create_table(
        "launch_settings",
        *_texts("array_id", "server", "name", "value"),
        sa.PrimaryKeyConstraint("array_id", "server", "name", name=op.f("pk_launch_settings")),
    )
