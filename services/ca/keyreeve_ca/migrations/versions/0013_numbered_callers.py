"""Changes of operators' records and of issuing CAs of the control hierarchy are numbered among the revocations."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

_head = sa.table("revocation_head", sa.column("last_seq"))
_authorities = sa.table("authorities", *map(sa.column, ("authority_id", "hierarchy", "kind", "seq")))
_operators = sa.table("operators", *map(sa.column, ("person_uid", "seq")))
_NUMBERED = (
    (
        _authorities,
        _authorities.c.authority_id,
        sa.and_(_authorities.c.hierarchy == "control", _authorities.c.kind == "intermediate"),
    ),
    (_operators, _operators.c.person_uid, sa.true()),
)


def upgrade() -> None:
    for table, key, wanted in _NUMBERED:
        op.add_column(table.name, sa.Column("seq", sa.BigInteger(), nullable=False, server_default="0"))
        for row in op.get_bind().scalars(sa.select(key).where(wanted).order_by(key)).all():
            op.execute(sa.update(_head).values(last_seq=_head.c.last_seq + 1))
            number = sa.select(_head.c.last_seq).scalar_subquery()
            op.execute(sa.update(table).where(key == row).values(seq=number))
    op.create_index(op.f("ix_operators_seq"), "operators", ["seq"], unique=False)


def downgrade() -> None:
    op.drop_index(op.f("ix_operators_seq"), "operators")
    for table, _, _ in _NUMBERED:
        op.drop_column(table.name, "seq")
