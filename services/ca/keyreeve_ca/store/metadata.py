"""The SQLAlchemy metadata of the CA's tables; schema.py imports all table modules."""

from keyreeve_chassis.database.service_tables import service_metadata

metadata = service_metadata()
