"""The schema of the credentials service: all its tables, its migrations, and the revisions that this release works with."""

from pathlib import Path

from keyreeve_chassis.schema.revisions import Schema
from keyreeve_credentials.entries import tables as entry_tables
from keyreeve_credentials.key_files import tables as key_file_tables
from keyreeve_credentials.keys import tables as key_tables
from keyreeve_credentials.launch_settings import tables as launch_setting_tables
from keyreeve_credentials.objects import tables as object_tables
from keyreeve_credentials.policies import tables as policy_tables
from keyreeve_credentials.restarts import tables as restart_tables
from keyreeve_credentials.store.metadata import metadata

# A table belongs to the metadata once its module has been imported.
TABLE_MODULES = (
    entry_tables,
    key_file_tables,
    key_tables,
    launch_setting_tables,
    object_tables,
    policy_tables,
    restart_tables,
)
SCHEMA = Schema(
    "keyreeve_credentials",
    metadata,
    Path(__file__).parent.parent / "migrations" / "versions",
    oldest=8,
    newest=9,
)
