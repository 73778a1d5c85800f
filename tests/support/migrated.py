"""Databases of any service at this release's revision: a copied file on SQLite, a copied database on PostgreSQL.

The first process of a test run that asks for a schema migrates its template, in the directory that the run shares.
"""

import itertools
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from keyreeve_chassis.database.engine import postgresql, sqlite_writer
from keyreeve_chassis.schema.migrating import upgrade
from keyreeve_chassis.schema.revisions import Schema
from support.postgres import Server
from support.waiting import locked

SHARED_DIRECTORY = "KEYREEVE_TEST_RUN"
"""Environment variable that names the directory which all processes of a test run share."""
_MAKING_SECONDS = 120.0
_numbers = itertools.count(1)


def run_directory() -> Path:
    """The directory that all processes of this test run share."""
    return Path(os.environ[SHARED_DIRECTORY])


def migrated_sqlite(path: Path, schema: Schema) -> Path:
    """Create a file for its service alone; return its path."""
    path.parent.mkdir(mode=0o700, exist_ok=True, parents=True)
    shutil.copyfile(_sqlite_template(schema), path)
    path.chmod(0o600)
    return path


def migrated_postgresql(server: Server, schema: Schema, name: str = "") -> str:
    """Create a database, which lives as long as the server; return its name."""
    return copied_postgresql(server, _postgresql_template(server, schema), name)


def copied_postgresql(server: Server, template: str, name: str = "") -> str:
    """Create a copy of a database to which nobody is connected; return its name."""
    name = name or f"copy_{os.getpid()}_{next(_numbers)}"
    # Half of what it takes to write the copy to the log.
    server.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY FILE_COPY")
    return name


def _sqlite_template(schema: Schema) -> Path:
    path = run_directory() / f"{schema.service}.sqlite"
    with first(path) as missing:
        if missing:
            making = path.with_suffix(".making")
            engine = sqlite_writer(making)
            upgrade(engine, schema)
            engine.dispose()
            making.rename(path)
    return path


def _postgresql_template(server: Server, schema: Schema) -> str:
    name = f"template_of_{schema.service}"
    marker = run_directory() / name
    with first(marker) as missing:
        if missing:
            server.execute(f"CREATE DATABASE {name}")
            engine = postgresql(server.url(name), schema=schema.name, application_name="test template", connections=1)
            upgrade(engine, schema)
            engine.dispose()
            marker.touch()
    return name


@contextmanager
def first(made: Path) -> Iterator[bool]:
    """Whether `made` is missing, under a lock that is held while it is created."""
    with locked(f"making {made.name}", made.with_suffix(".lock"), _MAKING_SECONDS):
        yield not made.exists()
