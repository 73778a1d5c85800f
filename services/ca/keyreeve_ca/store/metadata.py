"""What every table of the CA is registered with; the modules of tables import this, and schema.py imports them all."""

from keyreeve_chassis.database.service_tables import service_metadata

metadata = service_metadata()
