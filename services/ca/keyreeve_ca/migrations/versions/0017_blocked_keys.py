"""Keys that are not certified: those of certificates that were revoked for a compromised key begin the list."""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "blocked_keys",
        sa.Column("spki_sha256", sa.LargeBinary(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("approved_at", sa.BigInteger(), nullable=True),
        sa.Column("approved_by", sa.Text(), nullable=False),
        sa.Column("approver", sa.Text(), nullable=False),
        sa.Column("mac", sa.LargeBinary(), nullable=True),
        sa.PrimaryKeyConstraint("spki_sha256", name=op.f("pk_blocked_keys")),
    )
    op.execute(
        sa.text(
            "INSERT INTO blocked_keys (spki_sha256, reason, created_at, created_by, approved_by, approver)"
            " SELECT c.spki_sha256, 'key_compromise', min(r.revoked_at), min(r.actor), '', ''"
            " FROM revocations r JOIN certificates c ON c.serial = r.serial"
            " WHERE r.reason = 'key_compromise' GROUP BY c.spki_sha256"
        )
    )


def downgrade() -> None:
    op.drop_table("blocked_keys")
