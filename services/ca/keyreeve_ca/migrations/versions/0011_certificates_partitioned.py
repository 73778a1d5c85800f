"""PostgreSQL: the table of certificates becomes the first partition of one by ranges of serial numbers.

Nothing is read or copied: names change hands, and the check of 0010 is believed. Statements of the release before go on.
"""

from alembic import op

from keyreeve_ca.ledger import partitions

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        partitions.begin(op.get_bind())
        partitions.extend(op.get_bind())


def downgrade() -> None:
    """Only back to nothing: the partitions go with the table, when 0001 drops it."""
