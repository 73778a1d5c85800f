"""The metadata that all tables of the service belong to."""

from keyreeve_chassis.database.service_tables import service_metadata, service_tables
from keyreeve_chassis.trust_tables.tables import heads_table

metadata = service_metadata()
SERVICE_TABLES = service_tables(metadata)
TRUST_HEADS = heads_table(metadata)
