"""The index of resources also orders by owner, so that a page of one resource's entries is read and not sorted."""

from alembic import op

revision, down_revision, branch_labels, depends_on = "0009", "0008", None, None


def upgrade() -> None:
    op.create_index(
        op.f("ix_entries_array_id_resource_key_owner_key"), "entries", ["array_id", "resource_key", "owner_key"]
    )
    op.drop_index(op.f("ix_entries_array_id_resource_key"), "entries")
