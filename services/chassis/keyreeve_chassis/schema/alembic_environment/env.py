"""Alembic's entry point for the migrations of every service: it runs them on the connection that `upgrade` hands over."""

from alembic import context

from keyreeve_chassis.schema.migrating import run_environment

run_environment(context.config.attributes["metadata"])
