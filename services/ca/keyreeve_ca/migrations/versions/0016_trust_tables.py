"""Tables that decide about rights get MACs and heads; the next start seals what they hold.

Tokens whose makers had a certificate revoked end: until now that was looked for at each use.
"""

import sqlalchemy as sa
from alembic import op

from keyreeve_chassis.trust_tables.tables import MAC, add_mac_columns, create_heads_table

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

_TABLES = (
    "authorities",
    "operators",
    "operator_keys",
    "profiles",
    "profile_versions",
    "issuance_halt",
    "revocations",
    "enrollment_tokens",
    "members",
    "array_orders",
)


def upgrade() -> None:
    create_heads_table(op)
    add_mac_columns(op, *_TABLES)
    op.execute(
        sa.text(
            "UPDATE enrollment_tokens SET state = 'revoked', ended_at = created_at WHERE state IN ('open', 'bound')"
            " AND EXISTS (SELECT 1 FROM certificates c JOIN revocations r ON r.serial = c.serial"
            " WHERE c.identity = enrollment_tokens.creator AND r.revoked_at >= enrollment_tokens.created_at)"
        )
    )


def downgrade() -> None:
    for table in _TABLES:
        op.drop_column(table, MAC)
    op.drop_table("trust_table_heads")
