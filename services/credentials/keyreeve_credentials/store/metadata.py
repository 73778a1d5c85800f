"""The metadata that all tables of the service belong to."""

from keyreeve_chassis.database.service_tables import service_metadata, service_tables

metadata = service_metadata()
SERVICE_TABLES = service_tables(metadata)
