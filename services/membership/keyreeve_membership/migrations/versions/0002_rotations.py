"""Rotations, and up to where the CA knows the roll."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision, down_revision, branch_labels, depends_on = "0002", "0001", None, None


def _text(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.Text(), nullable=False)


def _number(name: str, *, nullable: bool = False) -> sa.Column[Any]:
    return sa.Column(name, sa.BigInteger(), autoincrement=False, nullable=nullable)


def _flag(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.Boolean(create_constraint=False), nullable=False)


def upgrade() -> None:
    op.add_column("roll_state", sa.Column("published", sa.BigInteger(), nullable=False, server_default="0"))
    op.create_table(
        "rotations",
        _text("rotation_id"),
        _text("array_id"),
        _text("kind"),
        _text("phase"),
        sa.Column("step", sa.Integer(), autoincrement=False, nullable=False),
        _text("old_authority_id"),
        _text("new_authority_id"),
        _text("old_primary_uid"),
        _text("new_primary_uid"),
        _text("key_type"),
        _number("epoch"),
        _number("final_epoch"),
        _flag("was_activated"),
        _number("phase_seconds"),
        _number("deadline"),
        _text("operation_id"),
        _flag("old_certificates_waived"),
        _number("old_certificates"),
        _text("creator"),
        _number("created_at"),
        _number("updated_at"),
        _number("ended_at", nullable=True),
        sa.PrimaryKeyConstraint("rotation_id", name=op.f("pk_rotations")),
    )
    op.create_index(op.f("ix_rotations_array_id"), "rotations", ["array_id"], unique=False)
    op.create_table(
        "rotation_members",
        _text("rotation_id"),
        _text("member_uid"),
        _text("checked_boot_id"),
        _flag("waived"),
        _flag("quarantined"),
        _text("waiting"),
        _number("waiting_since"),
        sa.PrimaryKeyConstraint("rotation_id", "member_uid", name=op.f("pk_rotation_members")),
    )
