"""The declaration of trust tables, the table of their heads, and what migrations need for both."""

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Column, LargeBinary, MetaData, Table, Text

from keyreeve_chassis.trust_tables.seals import Value

MAC = "mac"
"""Name of the column with a row's MACs."""


def mac_column() -> Column[Any]:
    """The column that a trust table has beside its own; NULL in rows that were never sealed."""
    return Column(MAC, LargeBinary, nullable=True)


def heads_table(metadata: MetaData) -> Table:
    """Define the table of heads in a service's metadata."""
    return Table(
        "trust_table_heads",
        metadata,
        Column("name", Text, primary_key=True),
        Column("sealed", LargeBinary, nullable=False),
    )


def create_heads_table(op: Any) -> None:  # noqa: ANN401 - alembic.op is a module
    """Create the table of heads, in a migration."""
    op.create_table(
        "trust_table_heads",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_trust_table_heads")),
    )


def add_mac_columns(op: Any, *tables: str) -> None:  # noqa: ANN401 - alembic.op is a module
    """Add the column for MACs to existing tables, in a migration; the next start seals their rows."""
    for table in tables:
        op.add_column(table, sa.Column(MAC, sa.LargeBinary(), nullable=True))


@dataclass(frozen=True)
class TrustTable:
    """One trust table: its columns under MACs, in sets that only ever grow in number."""

    table: Table
    column_sets: tuple[tuple[str, ...], ...]
    """The first set has no defaults; columns that a later release adds are a further set, and are nullable."""
    listed: bool = True
    """Whether its head lists every row. For tables of some thousand rows at the most; others say only that rows differ."""

    def __post_init__(self) -> None:
        known = set(self.table.c.keys())
        named = [name for columns in self.column_sets for name in columns]
        if MAC not in known or not set(named) < known or len(set(named)) != len(named):
            raise ValueError(f"the columns of the trust table {self.name} do not fit its declaration")

    @property
    def name(self) -> str:
        """The table's name, which its MACs cover."""
        return self.table.name

    @property
    def key_names(self) -> tuple[str, ...]:
        """Names of the primary key's columns."""
        return tuple(column.name for column in self.table.primary_key)


def key_text(values: tuple[Value, ...]) -> str:
    """A primary key for people and for the list of a head."""
    return "/".join(value.hex() if isinstance(value, bytes) else str(value) for value in values)


@dataclass(frozen=True)
class TrustTables:
    """The trust tables of a service."""

    heads: Table
    tables: tuple[TrustTable, ...]

    def of(self, table: Table) -> TrustTable:
        """The declaration of a table."""
        return next(one for one in self.tables if one.table is table)

    @property
    def listed(self) -> frozenset[str]:
        """Names of the tables whose heads list their rows."""
        return frozenset(one.name for one in self.tables if one.listed)
