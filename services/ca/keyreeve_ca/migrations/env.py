"""Alembic's entry point: the chassis does the work."""

from keyreeve_ca.store.schema import SCHEMA
from keyreeve_chassis.database.migrating import run_environment

run_environment(SCHEMA.metadata)
