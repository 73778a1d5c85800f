"""Entries, key-encryption keys, and what every service has."""

import sqlalchemy as sa
from alembic import op

from keyreeve_chassis.database.service_tables import create_service_tables

revision, down_revision, branch_labels, depends_on = "0001", None, None, None


def upgrade() -> None:
    create_service_tables(op)
    op.create_table(
        "keks",
        sa.Column("kek_id", sa.Text(), nullable=False),
        sa.Column("array_id", sa.Text(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("wraps", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("changed_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("kek_id", name=op.f("pk_keks")),
        sa.CheckConstraint("state IN ('writer', 'draining', 'destroying', 'destroyed')", name=op.f("ck_keks_state")),
    )
    op.create_index("uq_keks_array_id_number", "keks", ["array_id", "number"], unique=True)
    writer = sa.text("state = 'writer'")
    op.create_index("uq_keks_writer", "keks", ["array_id"], unique=True, sqlite_where=writer, postgresql_where=writer)
    op.create_table(
        "entries",
        *(
            sa.Column(name, sa.Text(), nullable=False)
            for name in (
                "entry_uid",
                "array_id",
                "owner",
                "owner_key",
                "resource",
                "resource_key",
                "user_name",
                "user_name_key",
                "kind",
                "source",
            )
        ),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("encryption", sa.BigInteger(), nullable=False),
        sa.Column("kek_id", sa.Text(), nullable=False),
        sa.Column("wrapped_key", sa.LargeBinary(), nullable=False),
        sa.Column("sealed_user_name", sa.LargeBinary(), nullable=False),
        sa.Column("sealed_secret", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("entry_uid", name=op.f("pk_entries")),
    )
    op.create_index("uq_entries_place", "entries", ["array_id", "owner_key", "resource_key"], unique=True)
    op.create_index(op.f("ix_entries_array_id_resource_key"), "entries", ["array_id", "resource_key"])
    op.create_index(op.f("ix_entries_kek_id_entry_uid"), "entries", ["kek_id", "entry_uid"])
