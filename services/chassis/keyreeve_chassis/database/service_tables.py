"""The tables that every service with a database has, and the migration that creates them."""

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy import BigInteger, CheckConstraint, Column, Integer, LargeBinary, MetaData, Table, Text, select

from keyreeve_chassis.audit.sql import AuditSchema
from keyreeve_chassis.audit.tables import audit_tables
from keyreeve_chassis.database.writers import writer_table
from keyreeve_chassis.idempotency.sql import request_table
from keyreeve_chassis.keys.tables import key_table
from keyreeve_chassis.leases.sql import lease_table
from keyreeve_chassis.operations.tables import operation_table


@dataclass(frozen=True)
class ServiceTables:
    """The chassis's tables in one service's metadata."""

    state: Table
    """One row, made by the first start."""
    keys: Table
    writers: Table
    requests: Table
    operations: Table
    leases: Table
    audit: AuditSchema


def service_metadata() -> MetaData:
    """New metadata with the naming convention that migrations use."""
    return MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


def service_tables(metadata: MetaData) -> ServiceTables:
    """Define them in a service's metadata."""
    keys, writers = key_table(metadata), writer_table(metadata)
    return ServiceTables(
        state=Table(
            "service_state",
            metadata,
            Column("id", Integer, CheckConstraint("id = 1", name="single_row"), primary_key=True, autoincrement=False),
            Column("trust_domain", Text, nullable=False),
            Column("restore_generation", BigInteger, nullable=False),
            Column("key_check", LargeBinary, nullable=False),
            Column("created_at", BigInteger, nullable=False),
        ),
        keys=keys,
        writers=writers,
        requests=request_table(metadata),
        operations=operation_table(metadata),
        leases=lease_table(metadata),
        audit=AuditSchema(
            audit_tables(metadata), keys, "SELECT restore_generation FROM service_state", select(writers.c.worker_id)
        ),
    )


def create_service_tables(op: Any) -> None:  # noqa: ANN401 - alembic.op is a module
    """Create them, in the first migration of a service. Never changed: what comes later is a function of its own."""

    def create(name: str, *columns: sa.Column[Any], key: tuple[str, ...], check: tuple[str, str] | None = None) -> None:
        constraints: list[sa.Constraint] = [sa.PrimaryKeyConstraint(*key, name=op.f(f"pk_{name}"))]
        if check is not None:
            constraints.append(sa.CheckConstraint(check[1], name=op.f(f"ck_{name}_{check[0]}")))
        op.create_table(name, *columns, *constraints)

    def text(name: str) -> sa.Column[Any]:
        return sa.Column(name, sa.Text(), nullable=False)

    def number(name: str) -> sa.Column[Any]:
        return sa.Column(name, sa.BigInteger(), autoincrement=False, nullable=False)

    def small(name: str) -> sa.Column[Any]:
        return sa.Column(name, sa.Integer(), autoincrement=False, nullable=False)

    def binary(name: str, *, nullable: bool = False) -> sa.Column[Any]:
        return sa.Column(name, sa.LargeBinary(), nullable=nullable)

    def flag(name: str) -> sa.Column[Any]:
        return sa.Column(name, sa.Boolean(create_constraint=False), nullable=False)

    def place(name: str) -> sa.Column[Any]:
        kind = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
        return sa.Column(name, kind, autoincrement=False, nullable=False)

    create(
        "service_state",
        small("id"),
        text("trust_domain"),
        number("restore_generation"),
        binary("key_check"),
        number("created_at"),
        key=("id",),
        check=("single_row", "id = 1"),
    )
    create("keys", text("key_id"), text("key_type"), binary("spki"), binary("sealed", nullable=True), key=("key_id",))
    create("workers", text("worker_id"), number("registered_at"), number("expires_at"), key=("worker_id",))
    create(
        "requests",
        text("caller"),
        text("method"),
        text("request_id"),
        binary("payload_sha256"),
        binary("response", nullable=True),
        number("created_at"),
        key=("caller", "method", "request_id"),
    )
    op.create_index(op.f("ix_requests_created_at"), "requests", ["created_at"], unique=False)
    create(
        "operations",
        text("operation_id"),
        text("method"),
        text("creator"),
        text("state"),
        text("phase"),
        text("arguments"),
        binary("position"),
        number("done"),
        number("total"),
        number("created_at"),
        number("updated_at"),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        flag("cancel_requested"),
        text("error_reason"),
        text("error_message"),
        sa.Column("waiting", sa.Text(), nullable=False, server_default="[]"),
        key=("operation_id",),
    )
    op.create_index(op.f("ix_operations_state"), "operations", ["state"], unique=False)
    create("leases", text("name"), number("fence"), text("owner_nonce"), number("expires_ms"), key=("name",))
    create(
        "audit_chains",
        binary("chain_id"),
        number("restore_generation"),
        text("writer"),
        number("registered_at"),
        text("state"),
        number("n"),
        binary("head"),
        flag("settled"),
        key=("chain_id",),
        check=("state", "state IN ('open', 'closed', 'abandoned')"),
    )
    create(
        "audit_links",
        binary("chain_id"),
        number("n"),
        number("db_time"),
        binary("link"),
        binary("leaves"),
        binary("bodies", nullable=True),
        key=("chain_id", "n"),
    )
    create("audit_log", place("position"), binary("chain_id"), number("n"), key=("position",))
    create("audit_nodes", small("height"), number("number"), binary("hash"), key=("height", "number"))
    create("audit_checkpoints", place("k"), binary("body"), binary("signature"), key=("k",))
    create("audit_signers", small("number"), text("key_id"), key=("number",))
