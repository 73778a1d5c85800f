"""This release on a database that the next one has expanded: it goes on, starts again, and stops working when that one removes."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from keyreeve.values import CrlReason
from keyreeve_ca.store.schema import SCHEMA
from keyreeve_chassis.database.engine import postgresql, sqlite_writer
from keyreeve_chassis.database.locking import DatabaseRefused
from keyreeve_chassis.schema.migrating import upgrade
from keyreeve_chassis.schema.revisions import Schema
from support.running_ca import ADMIN, AUDITOR, RunningCa, running, server_csr

EXPAND = """
    op.add_column("certificates", sa.Column("next", sa.Text(), nullable=True))
    op.add_column("control_plane", sa.Column("next", sa.Text(), nullable=True))
    op.create_table("things_of_the_next_release", sa.Column("thing", sa.Text(), primary_key=True))
"""
REMOVE = """
    op.drop_table("operator_ssh_authorities")
"""


def next_release(directory: Path, *, works_from: int | None = SCHEMA.newest) -> Schema:
    """A schema with two revisions more: one that adds, one that removes what this release needs."""
    versions = directory / "versions"
    shutil.copytree(SCHEMA.migrations, versions)
    newest = SCHEMA.newest
    for number, body in ((newest + 1, EXPAND), (newest + 2, REMOVE)):
        head = f'revision, down_revision = "{number:04d}", "{number - 1:04d}"'
        (versions / f"{number:04d}_next.py").write_text(
            f"import sqlalchemy as sa\nfrom alembic import op\n\n{head}\n\n\ndef upgrade() -> None:{body}"
        )
    return replace(SCHEMA, migrations=versions, newest=newest + 2, removing=1, works_from=works_from)


def migrate(ca: RunningCa, schema: Schema, *, expand: bool) -> None:
    """What the next release's migration Job does."""
    path = ca.settings.sqlite_file
    url = ca.settings.database.url.get_secret_value()
    engine = (
        postgresql(url, schema=SCHEMA.name, application_name="next", connections=1)
        if path is None
        else sqlite_writer(path)
    )
    upgrade(engine, schema, expand=expand)
    engine.dispose()


def work(ca: RunningCa) -> None:
    """Issue, look up and revoke."""
    issued = ca.client(ADMIN).certificates.sign("server", server_csr("next.example.test"))
    assert ca.client(AUDITOR).certificates.get(issued.serial).serial == issued.serial
    ca.client(ADMIN).certificates.revoke(issued.serial, CrlReason.SUPERSEDED)
    ca.client(ADMIN).issuance.halt("for the test")
    ca.client(ADMIN).issuance.resume("it is over")


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_it_goes_on_and_starts_again_on_an_expanded_schema_and_not_on_one_that_lacks_what_it_needs(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    following = next_release(tmp_path)
    with running(kind, request, workers=1) as ca:
        work(ca)
        if kind == "postgresql":  # an SQLite file has one writer, so that its service is stopped for a migration
            migrate(ca, following, expand=True)
            work(ca)
        ca.stop()
        migrate(ca, following, expand=True)
        again = RunningCa(ca.settings, ca.directory, workers=1)
        again.start()
        try:
            work(again)
        finally:
            again.stop()
        migrate(ca, following, expand=False)
        with pytest.raises(DatabaseRefused, match="a newer release has migrated it"):
            ca.start()


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_an_expanded_schema_of_a_release_that_does_not_work_with_this_one_is_refused(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    with running(kind, request, workers=1) as ca:
        ca.stop()
        migrate(ca, next_release(tmp_path, works_from=None), expand=True)
        with pytest.raises(DatabaseRefused, match="a newer release has migrated it"):
            ca.start()
