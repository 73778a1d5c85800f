"""The roll and the epochs."""

from typing import Any

import sqlalchemy as sa
from alembic import op

from keyreeve_chassis.database.service_tables import create_service_tables

revision, down_revision, branch_labels, depends_on = "0001", None, None, None


def _text(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.Text(), nullable=False)


def _number(name: str, *, nullable: bool = False) -> sa.Column[Any]:
    return sa.Column(name, sa.BigInteger(), autoincrement=False, nullable=nullable)


def _binary(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.LargeBinary(), nullable=False)


def _flag(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.Boolean(create_constraint=False), nullable=False)


def upgrade() -> None:
    create_service_tables(op)
    state = op.create_table(
        "roll_state",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        _number("revision"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_roll_state")),
        sa.CheckConstraint("id = 1", name=op.f("ck_roll_state_single_row")),
    )
    op.bulk_insert(state, [{"id": 1, "revision": 0}])
    op.create_table(
        "arrays",
        _text("array_id"),
        _text("array_uid"),
        _text("state"),
        _text("authority_id"),
        _binary("authority_sha256"),
        _number("epoch"),
        _flag("peer_security"),
        _text("change"),
        _number("order_number"),
        sa.Column("order_step", sa.Integer(), autoincrement=False, nullable=False),
        _text("backups"),
        _number("created_at"),
        sa.PrimaryKeyConstraint("array_id", name=op.f("pk_arrays")),
        sa.UniqueConstraint("array_uid", name=op.f("uq_arrays_array_uid")),
        sa.CheckConstraint("state IN ('active', 'dissolved')", name=op.f("ck_arrays_state")),
    )
    op.create_table(
        "members",
        _text("member_uid"),
        _text("name"),
        _text("array_id"),
        _text("joining_array_id"),
        _text("state"),
        _flag("primary"),
        _text("address"),
        _text("external_names"),
        _text("release"),
        _number("created_at"),
        _number("revision"),
        _text("left_array_id"),
        sa.PrimaryKeyConstraint("member_uid", name=op.f("pk_members")),
        sa.UniqueConstraint("revision", name=op.f("uq_members_revision")),
        sa.CheckConstraint(
            "state IN ('standalone', 'joining', 'member', 'detaching', 'quarantined', 'detached')",
            name=op.f("ck_members_state"),
        ),
    )
    op.create_index(op.f("ix_members_array_id"), "members", ["array_id"], unique=False)
    op.create_index(
        "uq_members_present_name",
        "members",
        ["name"],
        unique=True,
        sqlite_where=sa.text("state <> 'detached'"),
        postgresql_where=sa.text("state <> 'detached'"),
    )
    op.create_index(
        "uq_members_primary",
        "members",
        ["array_id"],
        unique=True,
        sqlite_where=sa.text('"primary"'),
        postgresql_where=sa.text('"primary"'),
    )
    op.create_table(
        "member_events",
        _number("revision"),
        _text("member_uid"),
        _text("name"),
        _text("array_id"),
        _text("event"),
        _text("actor"),
        _text("comment"),
        _number("at"),
        sa.PrimaryKeyConstraint("revision", name=op.f("pk_member_events")),
    )
    op.create_index(op.f("ix_member_events_member_uid"), "member_events", ["member_uid"], unique=False)
    op.create_table(
        "reports",
        _text("member_uid"),
        _number("received_at_ms"),
        _number("time_ms"),
        _text("boot_id"),
        _text("view"),
        _text("peers"),
        _text("certificate"),
        _text("authority_id"),
        _number("certificate_not_after"),
        _number("running_sessions", nullable=True),
        _number("suspended_sessions", nullable=True),
        _flag("stopped"),
        _text("former_boot_id"),
        _number("booted_at_ms"),
        _flag("cloned"),
        sa.PrimaryKeyConstraint("member_uid", name=op.f("pk_reports")),
    )
    op.create_table(
        "acknowledgements",
        _text("member_uid"),
        _text("array_id"),
        _text("boot_id"),
        _number("epoch"),
        _binary("digest"),
        _number("at"),
        sa.PrimaryKeyConstraint("member_uid", name=op.f("pk_acknowledgements")),
    )
    op.create_table(
        "epochs",
        _text("array_id"),
        _number("epoch"),
        _number("restore_generation"),
        _binary("digest"),
        _binary("previous_digest"),
        _text("authorities"),
        _text("rotation_id"),
        _number("created_at"),
        sa.PrimaryKeyConstraint("array_id", "epoch", name=op.f("pk_epochs")),
    )
