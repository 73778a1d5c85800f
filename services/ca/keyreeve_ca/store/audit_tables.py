"""The audit log among the CA's tables."""

from sqlalchemy import select

from keyreeve_ca.store.metadata import metadata
from keyreeve_ca.store.tables import keys, workers
from keyreeve_chassis.audit.sql import AuditSchema
from keyreeve_chassis.audit.tables import audit_tables

audit = audit_tables(metadata)
AUDIT = AuditSchema(audit, keys, "SELECT restore_generation FROM control_plane", select(workers.c.worker_id))
