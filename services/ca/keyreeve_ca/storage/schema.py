"""The CA's schema: all its tables, its migrations, and which of them this release works with."""

from pathlib import Path

from keyreeve_ca.storage import (
    audit_tables,
    enrolment_tables,
    halt_tables,
    operation_tables,
    people_tables,
    revocation_tables,
    tables,
)
from keyreeve_ca.storage.metadata import metadata
from keyreeve_chassis.database.migrating import Schema

SERVICE = "ca"

# A table belongs to the metadata once its module has been imported.
TABLE_MODULES = (
    tables,
    audit_tables,
    enrolment_tables,
    halt_tables,
    operation_tables,
    people_tables,
    revocation_tables,
)
SCHEMA = Schema("keyreeve_ca", metadata, Path(__file__).parent.parent / "migrations", oldest=11, newest=11)
