"""Removal of what a service has made in a database beside its state directory."""

from collections.abc import Callable

from sqlalchemy import text
from sqlalchemy.exc import OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as NotOpenedInTime

from keyreeve.errors import StoreUnavailable
from keyreeve_chassis.database.binding import BoundState, DatabaseBinding
from keyreeve_chassis.database.opening import direct_engine, writing_database
from keyreeve_chassis.database.transactions import Database
from keyreeve_chassis.schema import revisions
from keyreeve_chassis.schema.revisions import Schema
from keyreeve_chassis.settings.sections import DatabaseServerSettings


def remove_database(
    settings: DatabaseServerSettings,
    schema: Schema,
    binding: DatabaseBinding,
    bound_state: Callable[[Database], BoundState | None],
) -> list[str]:
    """Remove the service's schema from PostgreSQL, or its SQLite file elsewhere; return what was removed.

    Only what belongs to this state directory is removed: raises `WrongDatabase` otherwise, `StoreUnavailable` when the
    database does not answer. Call it while the service does not run.
    """
    recalled = binding.recall()
    path = settings.sqlite_file
    if recalled is None or (path is not None and not path.exists()):
        return []
    try:
        with writing_database(settings, schema) as database:
            if revisions.current_revision(database.engine, schema) is None:
                return []
            binding.check(bound_state(database), recalled)
            if path is None:
                with direct_engine(settings, schema, database) as engine, engine.begin() as connection:
                    quoted = connection.dialect.identifier_preparer.quote(schema.name)
                    connection.execute(text(f"DROP SCHEMA {quoted} CASCADE"))
                return [f"the schema {schema.name} of {binding.place}"]
    except (OperationalError, NotOpenedInTime):
        raise StoreUnavailable(f"{binding.place} does not answer") from None
    except SQLAlchemyError as problem:
        raise StoreUnavailable(f"{binding.place}: {type(problem).__name__}") from None
    removed = [path, *(path.with_name(path.name + end) for end in ("-wal", "-shm", ".lock"))]
    for file in removed:
        file.unlink(missing_ok=True)
    return [str(path)]
