"""The audit log's tables among the CA's own."""

from keyreeve_ca.storage.metadata import metadata
from keyreeve_chassis.audit.tables import audit_tables

audit = audit_tables(metadata)
