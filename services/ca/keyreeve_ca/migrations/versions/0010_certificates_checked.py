"""PostgreSQL: check that all certificates keep the promise of 0009, while everybody goes on reading and writing."""

from alembic import op

from keyreeve_ca.ledger import partitions

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        partitions.validate_constraint(op.get_bind())


def downgrade() -> None:
    pass
