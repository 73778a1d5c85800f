"""The service's schema, and the revisions that this release works with."""

from pathlib import Path

from keyreeve_chassis.schema.revisions import Schema
from keyreeve_membership.store.tables import metadata

SCHEMA = Schema(
    "keyreeve_membership", metadata, Path(__file__).parent.parent / "migrations" / "versions", oldest=4, newest=4
)
