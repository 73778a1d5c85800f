"""The audit log's tables among the CA's own."""

from keyreeve_ca.store.metadata import metadata
from keyreeve_chassis.audit.tables import audit_tables

audit = audit_tables(metadata)
