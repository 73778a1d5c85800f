"""Migrations of one service's schema with Alembic: upgrade under a lock, show drift.

A migration is expand-then-contract: the release before it is still running. Each runs in one transaction with a lock
timeout, so that it gives up rather than make everybody wait behind it. Only the process that
migrates imports this module, since Alembic takes 11 MiB.
"""

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from alembic import command, context
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import Connection, Engine, MetaData, inspect, text
from sqlalchemy.schema import CreateSchema

from keyreeve_chassis.schema.revisions import NOTE, VERSION_TABLE, Schema, current_revision, name_default_schema

_LOCK_TIMEOUT_MS = 4_000
_STATEMENT_TIMEOUT_MS = 600_000
_QUEUE_TIMEOUT_MS = 120_000
"""How long a replica waits while another one migrates."""


def upgrade(engine: Engine, schema: Schema, *, to: str = "head", expand: bool = False) -> None:
    """Bring the database to revision `to`, one migrating process at a time.

    `expand` leaves the revisions that only remove what the release before needs. On SQLite the caller holds the file's lock
    and `engine` is the writer's.
    """
    if expand:
        last = schema.newest - schema.removing
        if (current_revision(engine, schema) or 0) >= last:
            return
        to = f"{last:04d}"
    if engine.dialect.name == "sqlite":
        _turn_foreign_keys(engine, "OFF")  # SQLite alters a table by replacing it, which references must survive
        try:
            with engine.connect() as connection:
                _run(connection, schema, to)
                _note_what_works(connection, schema)
        finally:
            _turn_foreign_keys(engine, "ON")
        return
    with engine.connect() as connection, _migration_lock(connection, schema.name):
        # CREATE SCHEMA IF NOT EXISTS needs the right to create schemas even where there is nothing to do.
        if not inspect(connection).has_schema(schema.name):
            connection.execute(CreateSchema(schema.name))
        connection.execute(text(f"SET lock_timeout = {_LOCK_TIMEOUT_MS}"))
        connection.execute(text(f"SET statement_timeout = {_STATEMENT_TIMEOUT_MS}"))
        connection.commit()
        _run(connection, schema, to)
        _note_what_works(connection, schema)
        # The next user of this pool would inherit the settings.
        connection.invalidate()


def drift(engine: Engine, schema: Schema) -> list[Any]:
    """Return what Alembic would change to match the tables in the code."""
    with engine.connect() as connection:
        return list(compare_metadata(_context(connection, schema), schema.metadata))


def run_environment(metadata: MetaData) -> None:
    """Run the migrations on the connection of `upgrade`; called by Alembic's env.py."""
    connection = context.config.attributes["connection"]
    context.configure(
        connection=connection,
        target_metadata=metadata,
        transaction_per_migration=True,
        render_as_batch=connection.dialect.name == "sqlite",
    )
    with context.begin_transaction():
        context.run_migrations()


def configuration(schema: Schema) -> Config:
    """Build Alembic's configuration without a file."""
    config = Config()
    config.set_main_option("script_location", _spelled(Path(__file__).parent / "alembic_environment"))
    config.set_main_option("version_locations", _spelled(schema.migrations))
    config.attributes["metadata"] = schema.metadata
    config.set_main_option("path_separator", "os")
    return config


def _spelled(path: Path) -> str:
    return str(path).replace("%", "%%")


def _run(connection: Connection, schema: Schema, to: str) -> None:
    config = configuration(schema)
    config.attributes["connection"] = connection
    command.upgrade(config, to)


def _note_what_works(connection: Connection, schema: Schema) -> None:
    """Tell older releases whether they still work with the schema."""
    revision = int(connection.scalar(text(f"SELECT version_num FROM {VERSION_TABLE}")) or 0)  # noqa: S608
    expanded = revision <= schema.newest - schema.removing
    works_from = schema.works_from if expanded and schema.works_from is not None else schema.newest
    if connection.dialect.name == "sqlite":
        connection.execute(text(f"PRAGMA user_version = {works_from}"))
    else:
        connection.execute(text(f"COMMENT ON TABLE {VERSION_TABLE} IS '{NOTE}{works_from}'"))
    connection.commit()


def _context(connection: Connection, schema: Schema) -> MigrationContext:
    name_default_schema(connection, schema.name)
    partitions = _partitions(connection)

    def include_name(name: str | None, kind: str, _parents: object) -> bool:
        return kind != "table" or name not in partitions

    options = {"target_metadata": schema.metadata, "compare_type": True, "include_name": include_name}
    return MigrationContext.configure(connection, opts=options)


def _partitions(connection: Connection) -> frozenset[str]:
    """Names of partitions, which the code does not declare: they are created as time goes on."""
    if connection.dialect.name != "postgresql":
        return frozenset()
    query = "SELECT relname FROM pg_class WHERE relispartition AND relkind = 'r' AND relnamespace = to_regnamespace(:schema)"
    return frozenset(connection.scalars(text(query), {"schema": connection.dialect.default_schema_name}))


@contextmanager
def _migration_lock(connection: Connection, schema: str) -> Iterator[None]:
    """PostgreSQL's advisory lock, for the session, since each migration commits."""
    key = zlib.crc32(f"keyreeve migrations of {schema}".encode())
    connection.execute(text(f"SET lock_timeout = {_QUEUE_TIMEOUT_MS}"))
    connection.execute(text(f"SET statement_timeout = {_QUEUE_TIMEOUT_MS}"))
    connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": key})
    connection.commit()
    name_default_schema(connection, schema)
    try:
        yield
    finally:
        # The connection is closed, not pooled: the lock goes with it, whatever state it is in.
        if not connection.invalidated:
            connection.invalidate()


def _turn_foreign_keys(engine: Engine, state: str) -> None:
    connection = engine.raw_connection()
    try:
        connection.cursor().execute(f"PRAGMA foreign_keys={state}")
    finally:
        connection.close()
