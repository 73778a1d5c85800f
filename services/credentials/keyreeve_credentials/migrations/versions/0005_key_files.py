"""Key files of servers, and the services that they are assigned to."""

import sqlalchemy as sa
from alembic import op

revision, down_revision, branch_labels, depends_on = "0005", "0004", None, None


def _texts(*names: str) -> list[sa.Column[str]]:
    return [sa.Column(name, sa.Text(), nullable=False) for name in names]


def upgrade() -> None:
    op.create_table(
        "key_files",
        *_texts("file_uid", "array_id", "server", "name"),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("holds_private_key", sa.Boolean(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("encryption", sa.BigInteger(), nullable=False),
        sa.Column("kek_id", sa.Text(), nullable=False),
        sa.Column("wrapped_key", sa.LargeBinary(), nullable=False),
        sa.Column("sealed_contents", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("file_uid", name=op.f("pk_key_files")),
    )
    op.create_index("uq_key_files_place", "key_files", ["array_id", "server", "name"], unique=True)
    op.create_index(op.f("ix_key_files_kek_id_file_uid"), "key_files", ["kek_id", "file_uid"])
    op.create_table(
        "key_file_uses",
        *_texts("array_id", "server", "service", "name"),
        sa.PrimaryKeyConstraint("array_id", "server", "service", "name", name=op.f("pk_key_file_uses")),
    )
