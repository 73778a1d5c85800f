"""The tables of an audit log, for a service's metadata."""

from dataclasses import dataclass

from sqlalchemy import BigInteger, Boolean, CheckConstraint, Column, Integer, LargeBinary, MetaData, Table, Text


@dataclass(frozen=True, slots=True)
class AuditTables:
    """Rows are written once; only a chain's head and the bodies of purged records change."""

    chains: Table
    links: Table
    log: Table
    nodes: Table
    checkpoints: Table
    signers: Table


def audit_tables(metadata: MetaData) -> AuditTables:
    """Define them."""
    return AuditTables(
        # `settled`: a checkpoint has the chain's end, so the leader need not look at it again.
        chains=Table(
            "audit_chains",
            metadata,
            Column("chain_id", LargeBinary, primary_key=True),
            Column("restore_generation", BigInteger, nullable=False),
            Column("writer", Text, nullable=False),
            Column("registered_at", BigInteger, nullable=False),
            Column(
                "state", Text, CheckConstraint("state IN ('open', 'closed', 'abandoned')", name="state"), nullable=False
            ),
            Column("n", BigInteger, nullable=False),
            Column("head", LargeBinary, nullable=False),
            Column("settled", Boolean(create_constraint=False), nullable=False),
        ),
        # One row for each commit, with all its records: a row for each record would cost as much as a certificate.
        links=Table(
            "audit_links",
            metadata,
            Column("chain_id", LargeBinary, primary_key=True),
            Column("n", BigInteger, primary_key=True, autoincrement=False),
            Column("db_time", BigInteger, nullable=False),
            Column("link", LargeBinary, nullable=False),
            Column("leaves", LargeBinary, nullable=False),
            Column("bodies", LargeBinary, nullable=True),
        ),
        # The order that the checkpoints gave to the links.
        log=Table(
            "audit_log",
            metadata,
            Column("position", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=False),
            Column("chain_id", LargeBinary, nullable=False),
            Column("n", BigInteger, nullable=False),
        ),
        # Complete subtrees of 256, 65,536, ... links, so that a proof reads few rows.
        nodes=Table(
            "audit_nodes",
            metadata,
            Column("height", Integer, primary_key=True, autoincrement=False),
            Column("number", BigInteger, primary_key=True, autoincrement=False),
            Column("hash", LargeBinary, nullable=False),
        ),
        checkpoints=Table(
            "audit_checkpoints",
            metadata,
            Column("k", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=False),
            Column("body", LargeBinary, nullable=False),
            Column("signature", LargeBinary, nullable=False),
        ),
        signers=Table(
            "audit_signers",
            metadata,
            Column("number", Integer, primary_key=True, autoincrement=False),
            Column("key_id", Text, nullable=False),
        ),
    )
