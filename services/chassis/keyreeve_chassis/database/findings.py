"""What can be wrong with a service's database, each with its fix."""

from collections.abc import Callable, Iterator

from sqlalchemy.exc import SQLAlchemyError

from keyreeve.errors import WrongDatabase
from keyreeve_chassis.database import migrating
from keyreeve_chassis.database.binding import DatabaseBinding
from keyreeve_chassis.database.engine import WAL_RESET_BUG_FIXED, SqliteRelease
from keyreeve_chassis.database.migrating import Schema
from keyreeve_chassis.database.opening import reading_database, writing_database
from keyreeve_chassis.database.transactions import Database
from keyreeve_chassis.local_admin.findings import Finding
from keyreeve_chassis.processes.refusals import StartRefused
from keyreeve_chassis.settings.sections import DatabaseServerSettings


def look_at_sqlite(settings: DatabaseServerSettings, release: SqliteRelease) -> Iterator[Finding]:
    """Is the database on an SQLite that has the WAL-reset bug? Services avoid it; other programs may not."""
    if settings.sqlite_file is None:
        return
    if not release.has_wal_reset_bug:
        yield Finding("sqlite", ok=True, message=f"SQLite {release.version}")
        return
    yield Finding(
        "sqlite",
        ok=True,
        message=f"SQLite {release.version} can corrupt a WAL database that two connections checkpoint at once; the service "
        "has only one that writes, which avoids it",
        fix="open the database with no other program while the service runs, and use a Python with SQLite "
        f"{'.'.join(map(str, WAL_RESET_BUG_FIXED))} or newer",
    )


def look_at_database(
    settings: DatabaseServerSettings,
    schema: Schema,
    binding: DatabaseBinding,
    look_inside: Callable[[Database], Iterator[Finding]],
) -> Iterator[Finding]:
    """Can the database be opened, is it the state directory's own, and at a revision that this release works with?"""
    opened = writing_database if settings.sqlite_file is None else reading_database
    try:
        if settings.sqlite_file is not None and not settings.sqlite_file.exists():
            binding.check(None)
            yield Finding(
                "database", ok=False, message=f"{settings.sqlite_file} does not exist", fix="keyreeve up makes it"
            )
            return
        with opened(settings, schema) as database:
            if migrating.current_revision(database.engine, schema) is None:
                binding.check(None)
            version = migrating.check_version(database.engine, schema)
            yield Finding("database", ok=True, message=f"schema version {version} in {binding.place}")
            yield from look_inside(database)
    except WrongDatabase as wrong:
        yield Finding("database", ok=False, message=f"{wrong.reason}: {wrong.message}", fix=wrong.fix)
    except (StartRefused, SQLAlchemyError) as refused:
        # Of SQLAlchemy's errors the type alone: the text may hold the URL with its password.
        message = type(refused).__name__ if isinstance(refused, SQLAlchemyError) else str(refused)
        yield Finding("database", ok=False, message=message, fix="Is the database up, and is database.url right?")
