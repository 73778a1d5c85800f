"""PostgreSQL: certificates up to a day to come are promised to be all that the table will hold (see 0011).

The promise holds for new rows at once; that the old ones keep it is checked by 0010, which stops nobody.
"""

from alembic import op

from keyreeve_ca.ledger import partitions

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        partitions.promise(op.get_bind())


def downgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        partitions.withdraw(op.get_bind())
