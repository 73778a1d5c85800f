"""The CA's schema: all its tables, its migrations, and which of them this release works with."""

from pathlib import Path

from keyreeve_ca.arrays import tables as array_tables
from keyreeve_ca.blocked_keys import tables as blocked_key_tables
from keyreeve_ca.enrollment import tables as enrollment_tables
from keyreeve_ca.halt import tables as halt_tables
from keyreeve_ca.operators import tables as operator_tables
from keyreeve_ca.revocation import tables as revocation_tables
from keyreeve_ca.sessions import tables as session_tables
from keyreeve_ca.store import audit_tables, tables
from keyreeve_ca.store.metadata import metadata
from keyreeve_chassis.database.transactions import register_failpoints
from keyreeve_chassis.schema.revisions import Schema

# A table belongs to the metadata once its module has been imported.
TABLE_MODULES = (
    tables,
    audit_tables,
    array_tables,
    blocked_key_tables,
    enrollment_tables,
    halt_tables,
    operator_tables,
    revocation_tables,
    session_tables,
)
SCHEMA = Schema("keyreeve_ca", metadata, Path(__file__).parent.parent / "migrations" / "versions", oldest=20, newest=20)

register_failpoints(SCHEMA.service)  # before a process arms them, which it does before it opens anything
