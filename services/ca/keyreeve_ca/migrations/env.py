"""Alembic's entry point: the chassis does the work."""

from keyreeve_ca.storage.tables import metadata
from keyreeve_chassis.database.migrating import run_environment

run_environment(metadata)
