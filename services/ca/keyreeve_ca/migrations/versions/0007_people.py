"""People. Whoever holds an operator's certificate that has not expired gets a record, so that nobody is put out by this."""

import time

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    table = op.create_table(
        "people",
        sa.Column("person_uid", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("invited_at", sa.BigInteger(), nullable=False),
        sa.Column("invited_by", sa.Text(), nullable=False),
        sa.Column("since", sa.BigInteger(), nullable=False),
        sa.Column("removed_at", sa.BigInteger(), nullable=True),
        sa.Column("removed_by", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("person_uid", name=op.f("pk_people")),
    )
    op.create_index(op.f("ix_people_name"), "people", ["name"], unique=False)
    now = int(time.time())
    held = sa.text(
        "SELECT identity, min(issued_at) FROM certificates WHERE profile_name = 'operator' AND not_after > :now"
        " GROUP BY identity ORDER BY identity"
    )
    rows: dict[str, dict[str, object]] = {}
    # Of two roles of one name the first in the alphabet wins, which is the admin's.
    for number, (identity, first) in enumerate(op.get_bind().execute(held, {"now": now})):
        _, role, name = identity.removeprefix("spiffe://").split("/")[1:]
        rows.setdefault(
            name,
            {
                "person_uid": f"{now * 1000:012x}{number:020x}",
                "name": name,
                "role": f"operators/{role}",
                "created_at": first,
                "invited_at": now,
                "invited_by": "migration",
                "since": 0,
                "removed_by": "",
            },
        )
    if rows:
        op.bulk_insert(table, list(rows.values()))


def downgrade() -> None:
    op.drop_table("people")
