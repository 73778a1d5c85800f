"""The CA's trust tables: what decides about rights, and the columns of each that count."""

from sqlalchemy import Connection, Table

from keyreeve_ca.arrays.tables import array_orders, members
from keyreeve_ca.blocked_keys.tables import blocked_keys
from keyreeve_ca.enrollment.tables import enrollment_tokens
from keyreeve_ca.halt.tables import issuance_halt
from keyreeve_ca.operators.tables import operator_approvals, operator_keys, operator_ssh_authorities, operators
from keyreeve_ca.revocation.tables import revocations
from keyreeve_ca.sessions.tables import operator_sessions
from keyreeve_ca.store.tables import authorities, profile_versions, profiles, trust_table_heads
from keyreeve_chassis.trust_tables.seals import Seals
from keyreeve_chassis.trust_tables.sql import SqlTrust
from keyreeve_chassis.trust_tables.tables import MAC, TrustTable, TrustTables

_COUNTERS = frozenset({"block_count"})
"""Columns that rise with every serial block and decide nothing."""


def _first_set(table: Table) -> tuple[str, ...]:
    key = {column.name for column in table.primary_key}
    return tuple(column.name for column in table.c if column.name not in key | _COUNTERS | {MAC})


TRUST_TABLES = TrustTables(
    trust_table_heads,
    (
        *(
            TrustTable(table, (_first_set(table),))
            for table in (authorities, operators, operator_keys, profiles, profile_versions, issuance_halt)
        ),
        *(
            TrustTable(table, (_first_set(table),), listed=False)
            for table in (
                revocations,
                enrollment_tokens,
                members,
                array_orders,
                blocked_keys,
                operator_approvals,
                operator_ssh_authorities,
                operator_sessions,
            )
        ),
    ),
)


def trust_tables_on(connection: Connection, seals: Seals) -> SqlTrust:
    """The trust tables in a writing transaction of the ledger."""
    return SqlTrust(connection, TRUST_TABLES, seals, lambda: None)
