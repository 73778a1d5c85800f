"""The revision of a service's schema that a database has, and which ones this release works with. Without Alembic."""

from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, Engine, MetaData, inspect, text

from keyreeve_chassis.database.locking import DatabaseRefused

VERSION_TABLE = "alembic_version"
"""Where Alembic keeps the revision, in its one column `version_num`."""
NOTE = "works with releases from revision "
"""PostgreSQL's comment on that table, before a number: what an older release cannot know of a schema that is newer than itself.

In SQLite the number is `PRAGMA user_version`.
"""


@dataclass(frozen=True, slots=True)
class Schema:
    """A service's schema: tables, migrations, and the revisions that this release works with."""

    name: str
    """PostgreSQL schema; SQLite has a file of its own instead."""
    metadata: MetaData
    migrations: Path
    """The directory of the migrations; revisions are numbered 0001, 0002, ..."""
    oldest: int
    newest: int
    removing: int = 0
    """How many of the newest revisions only remove what the release before needs."""
    works_from: int | None = None
    """`newest` of the oldest release that works with this schema while nothing has been removed; None: that of this one."""

    @property
    def service(self) -> str:
        """The service's name: in metrics, failpoints, threads, and as the application's name in PostgreSQL."""
        return self.name.removeprefix("keyreeve_")


def current_revision(engine: Engine, schema: Schema) -> int | None:
    """The number of the database's revision; None when it has none."""
    with engine.connect() as connection:
        name_default_schema(connection, schema.name)
        if not inspect(connection).has_table(VERSION_TABLE):
            return None
        revision: str | None = connection.scalar(text(f"SELECT version_num FROM {VERSION_TABLE}"))  # noqa: S608
    return None if revision is None else int(revision)


def check_version(engine: Engine, schema: Schema) -> int:
    """Return the database's revision. Raises `DatabaseRefused` when this release does not work with it."""
    revision = current_revision(engine, schema)
    known = f"revisions {schema.oldest:04d} to {schema.newest:04d}"
    if revision is None:
        raise DatabaseRefused(f"the database has no schema {schema.name}: run the migrations ({known}) first")
    if revision < schema.oldest:
        raise DatabaseRefused(
            f"the database is at revision {revision:04d} and this release works with {known}: run its migrations"
        )
    if revision > schema.newest and not _works_with(engine, schema):
        raise DatabaseRefused(
            f"the database is at revision {revision:04d} and this release works with {known}: a newer release has "
            "migrated it; run that one"
        )
    return revision


def _works_with(engine: Engine, schema: Schema) -> bool:
    """Whether the newer release that migrated the database has noted that this release works with it."""
    with engine.connect() as connection:
        if engine.dialect.name == "sqlite":
            works_from: int = connection.scalar(text("PRAGMA user_version")) or 0
            return 0 < works_from <= schema.newest
        name_default_schema(connection, schema.name)
        noted: str | None = connection.scalar(
            text(f"SELECT obj_description(to_regclass('{VERSION_TABLE}'), 'pg_class')")
        )
    return noted is not None and noted.startswith(NOTE) and int(noted.removeprefix(NOTE)) <= schema.newest


def name_default_schema(connection: Connection, name: str) -> None:
    """Tell SQLAlchemy the service's schema, which may not have existed when it asked at its first connection."""
    if connection.dialect.name == "postgresql":
        connection.dialect.default_schema_name = name
